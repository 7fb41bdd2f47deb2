"""A CT series of DICOM files: which files, whether they are whole, in order and evenly spaced.

ITK makes a volume of any files that it is given: with a slice missing it stretches the spacing,
what it cannot read it leaves out, and a tilted gantry it ignores. All that is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnseg.common.errors import DataError
from attnseg.imaging.itk import opened, refuse_too_large

_MODALITY, _SPACING = "0008|0060", "0028|0030"
_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
_MOST_GAP = 0.1  # of the slice distance; scanners round their positions
_MOST_TILT_DEG = 0.5


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM, by its first bytes or its ending."""
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM" and path.name != "DICOMDIR"
    except OSError:
        return False


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files that lie in a folder itself."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and is_dicom(path)]


def series_files(folder: Path, wanted: str | None) -> list[str]:
    """The files of the one series of a folder, in order of position.

    Args:
        folder: its own files count, not those of folders within.
        wanted: a series UID, or `largest`, where there are several.

    Raises:
        DataError: no series, several, or files that cannot be read.
    """
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader
    series = {
        uid: list(reader.GetGDCMSeriesFileNames(str(folder), uid))
        for uid in reader.GetGDCMSeriesIDs(str(folder))
    }
    read = {Path(name).name for names in series.values() for name in names}
    unread = [path.name for path in dicom_files(folder) if path.name not in read]
    if unread:
        raise DataError(
            f"{folder}: {_some(unread)} cannot be read as DICOM images: truncated, or no images; "
            "copy the series anew, or take them out of the folder"
        )
    if not series:
        raise DataError(f"{folder}: holds no DICOM series")
    if wanted == "largest":
        return max(series.values(), key=len)
    if wanted is not None and wanted in series:
        return series[wanted]
    listed = ", ".join(f"{uid} ({len(names)} files)" for uid, names in series.items())
    if wanted is not None:
        raise DataError(f"{folder}: series={wanted} is not here, but {listed}")
    if len(series) > 1:
        raise DataError(
            f"{folder}: holds several series: {listed}; say which by series=UID or series=largest"
        )
    return next(iter(series.values()))


def read_series(folder: Path, wanted: str | None) -> Any:
    """The volume of a folder's series, a SimpleITK image.

    Raises:
        DataError: see the module.
    """
    import SimpleITK as sitk

    names = series_files(folder, wanted)
    with opened(Path(names[0]), image=False) as header:
        refuse_too_large(folder, (*header.GetSize()[:2], len(names)), image=False)
    if len(names) == 1:
        return sitk.ReadImage(names[0])  # a slice, which is refused later, or multi-frame
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    tags = [_Tags(reader, number) for number in range(len(names))]
    _check_slices(folder, tags)
    return image


class _Tags:
    """The header of one slice."""

    def __init__(self, reader: Any, number: int) -> None:
        self._reader, self._number = reader, number

    def text(self, key: str) -> str:
        if not self._reader.HasMetaDataKey(self._number, key):
            return ""
        return str(self._reader.GetMetaData(self._number, key)).strip(" \0")

    def numbers(self, key: str, count: int) -> np.ndarray[Any, Any] | None:
        try:
            values = np.array([float(word) for word in self.text(key).split("\\")])
        except ValueError:
            return None
        return values if values.shape == (count,) and np.isfinite(values).all() else None


def _check_slices(folder: Path, tags: Sequence[_Tags]) -> None:
    problems = _modality_and_spacing(tags)
    orientations = [tag.numbers(_ORIENTATION, 6) for tag in tags]
    positions = [tag.numbers(_POSITION, 3) for tag in tags]
    without = sum(a is None or b is None for a, b in zip(orientations, positions, strict=True))
    if without:
        problems.append(
            f"{without} of {len(tags)} slices do not say where they are (Image Position and "
            "Orientation, Patient)"
        )
    else:
        problems += _uneven(np.array(orientations), np.array(positions))
    if problems:
        raise DataError(f"{folder}: this series cannot be projected:", problems)


def _modality_and_spacing(tags: Sequence[_Tags]) -> list[str]:
    problems = []
    others = {tag.text(_MODALITY) or "none" for tag in tags} - {"CT"}
    if others:
        problems.append(f"its modality is {', '.join(sorted(others))}, not CT")
    spacings = {tag.text(_SPACING) for tag in tags}
    values = [tag.numbers(_SPACING, 2) for tag in tags]
    if any(value is None or (value <= 0.0).any() for value in values):
        problems.append(
            f"Pixel Spacing is {' and '.join(sorted(spacings)) or 'missing'}; both numbers must be "
            "above 0 mm"
        )
    elif len(spacings) > 1:
        problems.append(f"Pixel Spacing varies: {' and '.join(sorted(spacings))}")
    return problems


def _uneven(orientations: Any, positions: Any) -> list[str]:
    """What is wrong with where the slices lie."""
    if np.abs(orientations - orientations[0]).max() > 1e-3:
        return ["its slices lie in different directions (Image Orientation, Patient)"]
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    at = positions @ normal
    order = np.argsort(at)
    gaps = np.diff(at[order])
    usual = float(np.median(gaps))
    if (np.abs(gaps) < 0.01).any():
        count = int((np.abs(gaps) < 0.01).sum())
        return [f"{count} slices lie where another does; is a scan in it twice?"]
    wide = np.abs(gaps - usual) > _MOST_GAP * usual
    if wide.any():
        where = int(np.argmax(wide))
        return [
            f"slices are missing: {gaps[where]:.2f} mm between slices {where + 1} and {where + 2} "
            f"of {len(at)}, where {usual:.2f} mm is usual ({int(wide.sum())} such places)"
        ]
    along = positions[order[-1]] - positions[order[0]]
    aside = np.linalg.norm(along - (along @ normal) * normal)
    tilt = float(np.rad2deg(np.arctan2(aside, abs(along @ normal))))
    if tilt > _MOST_TILT_DEG:
        return [f"the gantry is tilted by {tilt:.1f} degrees; resample the series upright first"]
    return []


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more files"
