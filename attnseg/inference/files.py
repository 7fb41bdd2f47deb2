"""What is written of one case: maps on the image's own grid, lesions, pictures, DICOM objects.

A case is written into a folder beside its place, which is moved there when it is whole.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg.common.files import replace_folder
from attnseg.imaging.case import Spacing
from attnseg.imaging.radiograph import Geometry

RESULT = "result.json"  # written last: a folder that has it is whole
_PREFIX = ".writing-"
_FAST = 2  # of zlib: 9 takes ten times as long for a tenth of the bytes


@contextmanager
def case_folder(place: Path) -> Iterator[Path]:
    """A folder to write a case into; it is at `place` afterwards, or nothing has changed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{_PREFIX}{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        yield temporary
        replace_folder(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left half written."""
    for path in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def read_result(folder: Path) -> dict[str, Any] | None:
    """The record of a whole case, None where there is none that can be read."""
    with suppress(OSError, ValueError):
        record = json.loads((folder / RESULT).read_text())
        if isinstance(record, dict):
            return record
    return None


def write_volume(
    path: Path,
    pixels: npt.NDArray[Any],
    spacing: Spacing | None,
    geometry: Geometry | None,
    note: str,
) -> None:
    """Write an image (H, W) as NIfTI, where the source lies: spacing, origin, direction.

    Args:
        path: ends in .nii.gz.
        pixels: uint8 or float32.
        spacing: mm per pixel (row, column) where there is no geometry.
        geometry: the source's own; a slice of a volume stays one.
        note: into the header's description, 79 characters at most.
    """
    import SimpleITK as sitk

    array = pixels
    if geometry is not None:
        array = pixels.reshape((1,) * (len(geometry.spacing) - 2) + pixels.shape)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    if geometry is not None:
        image.SetSpacing(geometry.spacing)
        image.SetOrigin(geometry.origin)
        image.SetDirection(geometry.direction)
    elif spacing is not None:
        image.SetSpacing((spacing[1], spacing[0]))
    image.SetMetaData("ITK_FileNotes", note[:79])
    sitk.WriteImage(image, str(path))


def write_png(path: Path, pixels: npt.NDArray[Any], words: Mapping[str, str]) -> None:
    """Write (H, W) or (H, W, 3) uint8, or (H, W) uint16, as PNG with text fields."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in words.items():
        info.add_text(key, value)
    Image.fromarray(pixels).save(path, pnginfo=info, compress_level=_FAST)


def sixteen_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """[0, 1] as 0 to 65535."""
    return np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16)
