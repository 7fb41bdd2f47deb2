"""The grid of a CT: where its voxels are in the patient, without reading them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg.common.errors import DataError
from attnseg.imaging.images import read_header
from attnseg.imaging.itk import itk_name

_UNEVEN = 0.1  # share by which the distance of two slices may differ from the others
_AXIAL = 1e-3  # how far a direction cosine may be from 0 or 1: about 0.06 degrees


@dataclass(frozen=True)
class Grid:
    """A volume's geometry in ITK's terms, every tuple ordered x, y, z.

    Attributes:
        size: voxels.
        spacing: mm.
        origin: centre of the first voxel, mm of the patient.
        direction: (9,) cosines, row by row.
        sop_uids: of each slice, first to last, where the CT is a folder of DICOM files.
        series_uid: of the CT, where it is known.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    sop_uids: tuple[str, ...] = ()
    series_uid: str | None = None

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """(3, 3): from an index step to mm."""
        matrix: npt.NDArray[np.float64] = np.array(self.direction).reshape(3, 3) * self.spacing
        return matrix

    def index(self, point_mm: tuple[float, float, float]) -> npt.NDArray[np.float64]:
        """Continuous index (x, y, z) of a point of the patient."""
        offset = np.array(point_mm) - np.array(self.origin)
        found: npt.NDArray[np.float64] = np.linalg.solve(self.matrix, offset)
        return found

    def flips(self, name: str) -> tuple[int, int, int]:
        """+1 or -1 for each axis: how the CT's own axes lie to DICOM's (left, back, up).

        Pixel positions are those of the scanner's axial slices; a file that was flipped on its
        way (as NIfTI often is) is understood, a turned one is not.

        Raises:
            DataError: the axes are turned or swapped; `name` is what the message calls the CT.
        """
        matrix = np.array(self.direction).reshape(3, 3)
        signs = np.sign(np.diag(matrix))
        if np.abs(matrix - np.diag(signs)).max() > _AXIAL or (signs == 0).any():
            raise DataError(
                f"{name}: its axes are turned against the scanner's axial slices, in whose pixels "
                "the annotations are; give the CT as it was scanned"
            )
        return int(signs[0]), int(signs[1]), int(signs[2])


def read_grid(path: Path) -> Grid:
    """The grid of a NIfTI, MHA/MHD or NRRD file, or of a folder with one DICOM series.

    Raises:
        DataError: missing, no image, not 3-D, or a folder with no or several series.
    """
    if path.is_dir():
        with itk_name(path) as place:
            return _read_series(Path(place))
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    reader = read_header(path)
    size = tuple(int(side) for side in reader.GetSize())
    if len(size) != 3 or min(size) < 1:
        shown = " x ".join(map(str, size))
        raise DataError(f"{path}: {shown} voxels, but a CT has three axes")
    return _grid(reader, size)


def _grid(image: Any, size: tuple[int, ...]) -> Grid:
    return Grid(
        size=(size[0], size[1], size[2]),
        spacing=tuple(float(side) for side in image.GetSpacing()),  # type: ignore[arg-type]
        origin=tuple(float(value) for value in image.GetOrigin()),  # type: ignore[arg-type]
        direction=tuple(float(value) for value in image.GetDirection()),
    )


def _read_series(folder: Path) -> Grid:
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    series = reader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        found = "no DICOM series" if not series else f"{len(series)} DICOM series"
        raise DataError(f"{folder}: {found} in this folder; give a folder that has exactly one")
    names = reader.GetGDCMSeriesFileNames(str(folder), series[0])
    slices = [_header(Path(name)) for name in names]  # in order along the slices' normal
    first = slices[0]
    normal = np.array(first.GetDirection()).reshape(3, 3)[:, 2]
    positions = np.array([one.GetOrigin() for one in slices]) @ normal
    step = float(first.GetSpacing()[2])
    if len(slices) > 1:
        steps = np.diff(positions)
        step = float(np.median(steps))
        if step <= 0 or np.abs(steps - step).max() > _UNEVEN * step:
            raise DataError(
                f"{folder}: its slices are {steps.min():g} to {steps.max():g} mm apart; some are "
                "missing, or there twice"
            )
    width, height = (int(side) for side in first.GetSize()[:2])
    across = first.GetSpacing()[:2]
    return Grid(
        size=(width, height, len(slices)),
        spacing=(float(across[0]), float(across[1]), step),
        origin=tuple(float(value) for value in first.GetOrigin()),  # type: ignore[arg-type]
        direction=tuple(float(value) for value in first.GetDirection()),
        sop_uids=tuple(_tag(one, "0008|0018") for one in slices),
        series_uid=_tag(first, "0020|000e") or None,
    )


def _header(path: Path) -> Any:
    """A slice's header; ITK's series reader would read the pixels, too."""
    reader = read_header(path)
    if len(reader.GetSize()) != 3:
        raise DataError(f"{path}: is no slice of a CT")
    return reader


def _tag(reader: Any, key: str) -> str:
    return str(reader.GetMetaData(key)).strip(" \0") if reader.HasMetaDataKey(key) else ""
