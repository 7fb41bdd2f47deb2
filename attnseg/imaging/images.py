"""Reading and writing single images with SimpleITK; spacing kept, nothing else interpreted.

PNG, NIfTI, MHA/MHD, NRRD and DICOM, 2-D or 3-D of one slice. What would silently train a model
on wrong pixels (a truncated file, a colour picture, a stack of slices) is refused in words.
"""

from __future__ import annotations

import gzip
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg.common.errors import DataError
from attnseg.imaging.case import Spacing
from attnseg.imaging.itk import opened

# A PNG's pHYs chunk is a print resolution; ITK reports 1.0 mm where there is none.
_NO_SPACING = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
# Pixel Spacing, Imager Pixel Spacing (projection X-ray), Nominal Scanned Pixel Spacing (film).
_DICOM_SPACING = ("0028|0030", "0018|1164", "0018|2010")
_NIFTI_HEADER = 352
_MOST_OFFSET = 1 << 20  # bytes before the pixels; what lies behind them is not read
_NIFTI_FLOATS = {16: "f4", 64: "f8"}  # data type codes of its header


@dataclass(frozen=True)
class Picture:
    """A decoded 2-D image.

    Attributes:
        pixels: (H, W), the file's own dtype where it is uint8, uint16 or int16, else float32.
        spacing: mm per pixel (row, column), None where the file does not say.
    """

    pixels: npt.NDArray[Any]
    spacing: Spacing | None = None


def read_image(path: Path) -> Picture:
    """Read a grey image; a DICOM MONOCHROME1 comes inverted (ITK does it): bright is absorbed.

    Raises:
        DataError: missing, unreadable, truncated, too large, in colour, not 2-D, or with NaN or
            infinity.
    """
    _refuse_unopenable(path)
    import SimpleITK as sitk

    try:
        with opened(path) as reader:
            image = reader.Execute()
        pixels = sitk.GetArrayFromImage(image)
    except RuntimeError:  # ITK's words name C++ files and addresses
        raise DataError(f"{path}: cannot be decoded; it is truncated, or no image") from None
    except MemoryError:
        raise DataError(f"{path}: does not fit the memory that is free; scale it down") from None
    _refuse_broken_nifti(path, pixels.nbytes)
    pixels = _two_dimensional(_grey(pixels, image.GetNumberOfComponentsPerPixel(), path), path)
    if pixels.dtype not in (np.uint8, np.uint16, np.int16):
        pixels = pixels.astype(np.float32)
        _refuse_non_finite(pixels, path)
    return Picture(pixels, _spacing(image, path))


def read_mask(path: Path) -> Picture:
    """Read a ground-truth mask: 0 and one other value, returned as uint8 0/1.

    Raises:
        DataError: as `read_image`, or the mask has more than two values.
    """
    picture = read_image(path)
    return Picture(binary_mask(picture.pixels, str(path)), picture.spacing)


def binary_mask(pixels: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    """0 stays 0, the one other value becomes 1; (H, W) uint8.

    Raises:
        DataError: there is more than one other value; `name` is what the message calls it.
    """
    values = np.unique(pixels)
    others = values[values != 0]
    if len(others) > 1:
        shown = ", ".join(f"{value:g}" for value in values[:5]) + (
            ", ..." if len(values) > 5 else ""
        )
        raise DataError(
            f"{name}: not a binary mask: {len(values)} values ({shown}); "
            "write 0 for background and one other value for the lesion"
        )
    binary: npt.NDArray[np.uint8] = (pixels != 0).astype(np.uint8)
    return binary


def write_image(path: Path, pixels: npt.NDArray[Any], spacing: Spacing | None = None) -> None:
    """Write a 2-D image in the (single-file) format that the name's ending says, atomically.

    Args:
        path: its folder is made where it is missing.
        pixels: (H, W); for PNG uint8 or uint16.
        spacing: mm per pixel (row, column); PNG does not keep it.
    """
    import SimpleITK as sitk

    assert pixels.ndim == 2, f"not a 2-D image: {pixels.shape}"
    image = sitk.GetImageFromArray(np.ascontiguousarray(pixels))
    if spacing is not None:
        image.SetSpacing((spacing[1], spacing[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    # ITK picks the format by the ending, so the temporary name must keep it.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        temporary = Path(folder) / path.name
        sitk.WriteImage(image, str(temporary))
        temporary.replace(path)


def _refuse_unopenable(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None


def _grey(pixels: npt.NDArray[Any], components: int, path: Path) -> npt.NDArray[Any]:
    """One channel of a grey picture stored as RGB(A); a true colour picture is refused."""
    if components == 1:
        return pixels
    colours = pixels[..., : 3 if components >= 3 else 1]
    if (colours != colours[..., :1]).any():
        raise DataError(
            f"{path}: a colour image (its channels differ, perhaps by burnt-in marks); "
            "convert it to grey"
        )
    return colours[..., 0]


def _two_dimensional(pixels: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    while pixels.ndim > 2 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim != 2:
        raise DataError(
            f"{path}: {' x '.join(map(str, pixels.shape))} voxels, but a 2-D image or a single "
            "slice is needed; project a CT with `attnseg drr`"
        )
    return np.ascontiguousarray(pixels)


def _spacing(image: Any, path: Path) -> Spacing | None:
    if path.suffix.lower() in _NO_SPACING:
        return None
    if image.HasMetaDataKey("0008|0016"):  # DICOM: ITK says 1.0 where no tag gives a spacing
        for key in _DICOM_SPACING:
            row, _, column = _tag(image, key).partition("\\")
            if row and column:
                return float(row), float(column)
        return None
    column, row = image.GetSpacing()[:2]
    return float(row), float(column)


def _tag(image: Any, key: str) -> str:
    return str(image.GetMetaData(key)).strip(" \0") if image.HasMetaDataKey(key) else ""


def _refuse_broken_nifti(path: Path, n_bytes: int) -> None:
    """ITK pads a truncated NIfTI with zeros, reads NaN as 0 and a spacing of 0 as 1, unasked."""
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        return
    try:
        with gzip.open(path) if name.endswith(".gz") else path.open("rb") as stream:
            content = stream.read(_MOST_OFFSET + n_bytes)
    except (EOFError, OSError, zlib.error):
        content = b""
    if len(content) < _NIFTI_HEADER + n_bytes:
        raise DataError(f"{path}: truncated: it holds fewer pixels than its header says")
    order = next((o for o in "<>" if np.frombuffer(content, f"{o}i4", 1)[0] == 348), None)
    if order is None:  # NIfTI-2
        return
    spacing = np.frombuffer(content, f"{order}f4", 2, offset=80)
    if not (np.isfinite(spacing) & (spacing != 0)).all():
        raise DataError(
            f"{path}: its spacing is {spacing[0]:g} x {spacing[1]:g} mm; mend its header"
        )
    kind = _NIFTI_FLOATS.get(int(np.frombuffer(content, f"{order}i2", 1, offset=70)[0]))
    start = int(np.frombuffer(content, f"{order}f4", 1, offset=108)[0])
    if kind is not None:
        values = np.frombuffer(content, f"{order}{kind}", offset=max(start, _NIFTI_HEADER))
        _refuse_non_finite(values, path)


def _refuse_non_finite(values: npt.NDArray[Any], path: Path) -> None:
    count = int((~np.isfinite(values)).sum())
    if count:
        raise DataError(f"{path}: {count} pixels are NaN or infinite")


def read_header(path: Path) -> Any:
    """SimpleITK's reader of a file, its header read and its pixels not.

    Raises:
        DataError: it cannot be decoded, or is too large.
    """
    try:
        with opened(path, image=False) as reader:
            return reader
    except RuntimeError:
        raise DataError(f"{path}: cannot be decoded; it is truncated, or no image") from None
