"""CTs and nodule masks as `Volume`s in a known orientation, from NIfTI, MHA/MHD, NRRD or DICOM.

Whatever order a file's axes have, voxels come as (z, y, x) towards head, back and left. What
would give a wrong DRR without a word (a colour or 2-D image, a truncated file, no HU, a mask of
another grid, ...) is refused in words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from attnseg.common.errors import DataError
from attnseg.config.drr import MasksConfig
from attnseg.imaging.drr.dicom import read_series
from attnseg.imaging.drr.headers import (
    refuse_bad_spacing,
    refuse_non_finite_nifti,
    refuse_truncated_nifti,
)
from attnseg.imaging.drr.masks import number_nodules
from attnseg.imaging.drr.volume import Array, Volume, same_grid
from attnseg.imaging.itk import itk_name, opened

_ENDINGS = ".nii, .nii.gz, .mha, .mhd, .nrrd, or a folder with one DICOM series"
_FEWEST_SLICES = 2
_AIR_BELOW_HU = -500.0  # every chest CT has voxels of lung and of air around the patient
_MOST_HU = 40_000.0


def read_ct(path: Path, series: str | None = None, check_hu: bool = True) -> Volume:
    """Read a CT.

    Args:
        path: a file, or a folder with a DICOM series.
        series: which, see `dicom.series_files`.
        check_hu: whether values that are no HU are refused.

    Returns:
        HU as int16 where the file's values are whole numbers that fit, else float32.

    Raises:
        DataError: in words, naming the file.
    """
    volume = _volume(_decoded(path, series), path)
    voxels = _compact(volume.voxels, path)
    low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        raise DataError(f"{path}: every voxel is {low:g}; there is nothing to project")
    if check_hu and (low > _AIR_BELOW_HU or high > _MOST_HU):
        raise DataError(
            f"{path}: values from {low:g} to {high:g} are no HU of a chest, which has air (-1000); "
            "convert it (a missing rescale intercept is often the cause), or set check_hu=false"
        )
    return Volume(voxels, volume.origin, volume.steps)


def read_nodules(path: Path, ct: Volume, config: MasksConfig, series: str | None = None) -> Volume:
    """Read a mask as a label volume on the CT's grid: 0, and every nodule's number.

    Raises:
        DataError: in words, naming the file.
    """
    mask = _volume(_decoded(path, series), path)
    voxels = mask.voxels
    if not np.issubdtype(voxels.dtype, np.integer):
        whole = np.rint(voxels)
        if not np.isfinite(voxels).all() or (np.abs(voxels - whole) > 1e-6).any():
            raise DataError(
                f"{path}: a mask of whole numbers is needed, not of fractions, NaN or infinity"
            )
        voxels = whole.astype(np.int32)
        del whole
    if voxels.min() < 0 or voxels.max() > 65535:
        raise DataError(
            f"{path}: mask values from {voxels.min()} to {voxels.max()}; 0 is background and "
            "nodules are 1 to 65535 (is it the CT?)"
        )
    voxels = voxels.astype(np.uint16)
    voxels[voxels < config.at_least] = 0
    mask = Volume(voxels, mask.origin, mask.steps)
    mask = _onto(mask, ct, path, config)
    # A grid that is the CT's but for rounding is the CT's.
    labels = number_nodules(mask.voxels, config.nodules)
    return Volume(labels, ct.origin, ct.steps)


def _decoded(path: Path, series: str | None) -> Any:
    """A SimpleITK image."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what matters of it is checked here
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    try:
        if path.is_dir():
            with itk_name(path) as place:
                try:
                    return read_series(Path(place), series)
                except DataError as error:  # in the words of the folder that was given
                    raise DataError(str(error).replace(place, str(path))) from None
        path.open("rb").close()
        refuse_bad_spacing(path)
        with opened(path, image=False) as reader:
            refuse_truncated_nifti(path)
            refuse_non_finite_nifti(path)
            return reader.Execute()
    except MemoryError:
        raise DataError(f"{path}: does not fit the memory that is free") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None
    except RuntimeError as error:  # ITK's words name C++ files and addresses
        raise DataError(f"{path}: {_cause(str(error))}") from None


def _cause(words: str) -> str:
    if "orthonormal" in words:
        return "its axes are not at right angles (a shear); resample it onto a plain grid"
    if "change spacing" in words:
        return "a voxel spacing in its header is not above 0 mm; mend the header"
    if "ize mismatch" in words or "requested region" in words:
        return "its slices differ in size; it mixes scans, or is no plain series"
    return f"cannot be decoded; it is truncated, or no volume ({_ENDINGS})"


def _volume(image: Any, path: Path) -> Volume:
    """An image of one channel and three axes, its axes put in order."""
    import SimpleITK as sitk

    if image.GetNumberOfComponentsPerPixel() > 1:
        count = image.GetNumberOfComponentsPerPixel()
        raise DataError(f"{path}: {count} values a voxel (colour?); one is needed")
    size = image.GetSize()
    if len(size) == 4 and size[3] == 1:
        image = image[:, :, :, 0]
    elif len(size) != 3:
        what = "a 2-D image" if len(size) == 2 else f"{len(size)} axes (a series in time?)"
        raise DataError(f"{path}: {what}; a CT volume of three axes is needed")
    if min(image.GetSize()) < _FEWEST_SLICES:
        shown = " x ".join(map(str, image.GetSize()))
        raise DataError(f"{path}: {shown} voxels: a single slice is no volume")
    if not (np.isfinite(image.GetSpacing()).all() and min(image.GetSpacing()) > 0.0):
        raise DataError(f"{path}: a voxel spacing is not above 0 mm; mend the header")
    image = sitk.DICOMOrient(image, "LPS")
    voxels = sitk.GetArrayFromImage(image)
    axes = np.array(image.GetDirection()).reshape(3, 3)
    steps = (axes * np.array(image.GetSpacing())).T[::-1]
    return Volume(voxels, np.array(image.GetOrigin()), np.ascontiguousarray(steps) + 0.0)


def _compact(voxels: Array, path: Path) -> Array:
    """int16 where that holds every value, else float32."""
    if voxels.dtype == np.int16:
        return voxels
    if np.issubdtype(voxels.dtype, np.integer):
        limits = np.iinfo(np.int16)
        if voxels.min() >= limits.min and voxels.max() <= limits.max:
            return voxels.astype(np.int16)
        return voxels.astype(np.float32)
    count = int((~np.isfinite(voxels)).sum())
    if count:
        raise DataError(f"{path}: {count} voxels are NaN or infinite")
    return voxels.astype(np.float32)


def _onto(mask: Volume, ct: Volume, path: Path, config: MasksConfig) -> Volume:
    """The mask on the CT's grid, by the rule of `masks.other_grid`."""
    if same_grid(mask, ct):
        return mask
    if config.other_grid == "refuse":
        raise DataError(
            f"{path}: its grid ({_grid(mask)}) is not the CT's ({_grid(ct)}); "
            "masks.other_grid=resample would bring it there"
        )
    moved = resample_labels(mask, ct)
    if mask.voxels.any() and not moved.voxels.any():
        raise DataError(f"{path}: its nodules lie outside the CT; is it another patient's?")
    return moved


def resample_labels(labels: Volume, grid: Volume) -> Volume:
    """Labels on another grid, nearest neighbour, 0 outside their own."""
    import SimpleITK as sitk

    moved = sitk.Resample(
        _image(labels), _image(grid, np.uint8), sitk.Transform(), sitk.sitkNearestNeighbor, 0
    )
    return Volume(sitk.GetArrayFromImage(moved), grid.origin, grid.steps)


def _image(volume: Volume, dtype: Any = None) -> Any:
    import SimpleITK as sitk

    voxels = volume.voxels if dtype is None else np.zeros(volume.voxels.shape, dtype)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(volume.spacing[::-1])
    image.SetOrigin(volume.origin.tolist())
    axes = (volume.steps / np.array(volume.spacing)[:, None])[::-1].T
    image.SetDirection(axes.ravel().tolist())
    return image


def _grid(volume: Volume) -> str:
    size = " x ".join(map(str, volume.voxels.shape[::-1]))
    spacing = " x ".join(f"{side:.4g}" for side in volume.spacing[::-1])
    origin = ", ".join(f"{value:.1f}" for value in volume.origin)
    return f"{size} voxels of {spacing} mm from ({origin})"
