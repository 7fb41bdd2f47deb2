"""What every annotation format is read into.

Pixels are counted from 0, x along columns and y along rows, and a whole number is the centre of
a pixel. Millimetres are the patient's (DICOM and ITK: x to the left, y to the back, z upwards).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from attnseg.imaging.case import MaskKind

Point = tuple[float, float]
"""(x, y): column, then row."""


@dataclass(frozen=True)
class Contour:
    """One outline in one slice of a CT.

    Attributes:
        points: whole pixels of the slice, in order; the last joins the first.
        z_mm: the slice's position (the z of Image Position Patient).
        sop_uid: the slice's SOP Instance UID, where the format gives it.
        inclusion: False where the outline cuts a hole.
    """

    points: tuple[tuple[int, int], ...]
    z_mm: float
    sop_uid: str | None = None
    inclusion: bool = True


@dataclass(frozen=True)
class Contours:
    """A nodule as one reader outlined it; the outline itself lies just outside the nodule."""

    contours: tuple[Contour, ...]


@dataclass(frozen=True)
class Ball:
    """A nodule by position and size in a CT.

    Attributes:
        centre: x, y, z: in mm of the patient, or x and y in pixels of the slice (`in_pixels`).
        diameter_mm: 0 for a mere point.
        in_pixels: whether x and y of `centre` are pixels; z is always in mm.
    """

    centre: tuple[float, float, float]
    diameter_mm: float
    in_pixels: bool = False


@dataclass(frozen=True, eq=False)
class Voxels:
    """A nodule as voxels of a mask volume.

    Attributes:
        inside: (z, y, x) bool, the nodule's bounding box.
        corner: index (z, y, x) of the box in the volume.
    """

    inside: npt.NDArray[np.bool_]
    corner: tuple[int, int, int]


@dataclass(frozen=True)
class Disc:
    """A nodule by position and size on a radiograph; diameter in pixels."""

    centre: Point
    diameter: float


@dataclass(frozen=True)
class Box:
    """A box on a radiograph, in pixel edges: it covers [left, right) x [top, bottom)."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Polygon:
    """A polygon on a radiograph; its outline belongs to the lesion."""

    points: tuple[Point, ...]


Shape = Contours | Ball | Voxels | Disc | Box | Polygon
Finding = Literal["nodule", "small_nodule", "non_nodule"]


@dataclass(frozen=True)
class Nodule:
    """One finding as one reader (or a data set's authors) marked it.

    Attributes:
        nodule_id: the format's own name for it.
        shape: where it is.
        reader: who marked it, where the format tells readers apart.
        subtlety: 1 (extremely subtle) to 5 (obvious), as LIDC and JSRT rate it.
        malignancy: 1 (highly unlikely) to 5 (highly suspicious), as LIDC rates it.
        malignant: what was proven (JSRT), None where it is not known.
        finding: LIDC's categories: a nodule of at least 3 mm, a smaller one, or none.
        label: what the format calls it, such as Nodule or Mass.
    """

    nodule_id: str
    shape: Shape
    reader: str | None = None
    subtlety: int | None = None
    malignancy: int | None = None
    malignant: bool | None = None
    finding: Finding = "nodule"
    label: str | None = None

    @property
    def mask_kind(self) -> MaskKind:
        """Exact where a reader drew its outline in the CT; a surrogate otherwise."""
        return "exact" if isinstance(self.shape, (Contours, Voxels)) else "surrogate"


@dataclass(frozen=True)
class Annotations:
    """What one source says of one scan or radiograph.

    Attributes:
        nodules: in the file's order.
        readers: everyone who read it, those who marked nothing included.
        series_uid: of the CT, where the format gives it.
    """

    nodules: tuple[Nodule, ...]
    readers: tuple[str, ...] = field(default=())
    series_uid: str | None = None
