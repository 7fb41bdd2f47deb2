"""What a data source deals in: a case (one DRR, X-ray and mask of one patient) and its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Spacing = tuple[float, float]
"""mm per pixel: row, then column."""

Pairing = Literal["same", "registered", "unregistered", "unpaired"]
"""How a case's X-ray and DRR belong together.

same: there is a DRR alone, and it serves both pathways. unpaired: there is an X-ray alone, and it
serves both. registered: of one patient and pixel on pixel (an X-ray simulated from the same CT).
unregistered: of one patient, but not aligned; the mask is the DRR's.
"""

MaskKind = Literal["exact", "surrogate"]
"""exact: a lesion's outline, drawn or projected. surrogate: a disc, box or polygon in its place."""


@dataclass(frozen=True, slots=True)
class Case:
    """One DRR + X-ray + mask of one patient: where its images are, not the images.

    A source that makes its images (the phantom) leaves the paths None.

    Attributes:
        case_id: unique within a data set.
        patient_id: cases that share it never fall into different splits.
        drr: file of the DRR, where it is one.
        xray: file of the X-ray, where it is one.
        mask: file of the ground truth, where it is one.
        spacing: mm per pixel (row, column) of the DRR, None where unknown.
        split: the split that the data set itself puts the case in, None where it says nothing.
        pairing: how xray and drr belong together, None where nobody says.
        mask_kind: what the mask stands for, None where nobody says.
        reader: who drew the mask, or how several readers were combined.
        labelled: False for an image that nobody has read: it has no mask, not an empty one.
    """

    case_id: str
    patient_id: str
    drr: Path | None = None
    xray: Path | None = None
    mask: Path | None = None
    spacing: Spacing | None = None
    split: str | None = None
    pairing: Pairing | None = None
    mask_kind: MaskKind | None = None
    reader: str | None = None
    labelled: bool = True


@dataclass(frozen=True)
class CaseImages:
    """The decoded images of a case on one grid, at their own resolution.

    Attributes:
        xray: (H, W), any real dtype, bright where the radiation was absorbed.
        drr: (H, W), like `xray`.
        mask: (H, W) uint8, 0 or 1.
        spacing: mm per pixel (row, column), None where unknown.
    """

    xray: npt.NDArray[Any]
    drr: npt.NDArray[Any]
    mask: npt.NDArray[np.uint8]
    spacing: Spacing | None = None

    def __post_init__(self) -> None:
        shapes = {self.xray.shape, self.drr.shape, self.mask.shape}
        assert len(shapes) == 1, f"images on different grids: {shapes}"
        assert self.mask.ndim == 2, f"images are not 2-D: {self.mask.shape}"
        assert self.mask.dtype == np.uint8, f"mask is {self.mask.dtype}, not uint8"


@dataclass(frozen=True, slots=True)
class CaseContent:
    """What a case is made of, wherever it lies: what the data's digest is made of.

    Attributes:
        files: by their names within the data set, never absolute; in a fixed order.
        parameters: plain types: what else decides the images, and is not in `Case`.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    parameters: Any = None
