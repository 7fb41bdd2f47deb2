"""What ITK mends or ignores in silence, read from the file itself."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from attnseg.common.errors import DataError

_META_SPACING = re.compile(rb"^Element(?:Spacing|Size)\s*=\s*([^\r\n]*)", re.MULTILINE)
_NIFTI_HEADER = 352


def volume_ending(path: Path) -> str | None:
    """The ending of a file that is a volume, such as .nii.gz; None of another."""
    name = path.name.lower()
    endings = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
    return next((ending for ending in endings if name.endswith(ending)), None)


def refuse_bad_spacing(path: Path) -> None:
    """Refuse a header with a spacing that is not above 0.

    ITK takes 1 mm for a NIfTI's zero and flips the axis of a negative one.

    Raises:
        DataError: such a spacing.
    """
    ending = volume_ending(path)
    found: list[float] = []
    if ending in (".nii", ".nii.gz"):
        head = _head(path, _NIFTI_HEADER, zipped=ending == ".nii.gz")
        if (order := _order(head)) is not None:
            found = list(struct.unpack(f"{order}3f", head[80:92]))
    elif ending in (".mha", ".mhd"):
        words = _META_SPACING.findall(_head(path, 8192))
        found = [_number(word) for word in (words[0].split() if words else [])]
    if any(not math.isfinite(value) or value <= 0.0 for value in found):
        shown = " x ".join(f"{value:g}" for value in found)
        raise DataError(
            f"{path}: the voxel spacing is {shown} mm; every side must be above 0: mend the header"
        )


def refuse_truncated_nifti(path: Path) -> None:
    """Refuse a NIfTI that ends before its last voxel: ITK pads it with zeros without a word.

    Raises:
        DataError: it does.
    """
    ending = volume_ending(path)
    if ending not in (".nii", ".nii.gz"):
        return
    head = _head(path, _NIFTI_HEADER, zipped=ending == ".nii.gz")
    order = _order(head)
    if order is None:
        return  # what reads the volume will say so
    bits = struct.unpack(f"{order}h", head[72:74])[0]
    begins = max(_NIFTI_HEADER, int(struct.unpack(f"{order}f", head[108:112])[0]))
    needed = begins + math.prod(max(1, side) for side in _sides(head, order)) * bits // 8
    size = path.stat().st_size if ending == ".nii" else _unzipped_size(path, needed)
    if size < needed:
        raise DataError(f"{path}: truncated: it holds fewer voxels than its header says")


def refuse_non_finite_nifti(path: Path) -> None:
    """Refuse a NIfTI of floats with NaN or infinity: ITK reads them as 0, which is water.

    Raises:
        DataError: it has some.
    """
    ending = volume_ending(path)
    if ending not in (".nii", ".nii.gz"):
        return
    head = _head(path, _NIFTI_HEADER, zipped=ending == ".nii.gz")
    order = _order(head)
    kind = {16: "f4", 64: "f8"}.get(struct.unpack(f"{order}h", head[70:72])[0]) if order else None
    if order is None or kind is None:
        return
    begins = max(_NIFTI_HEADER, int(struct.unpack(f"{order}f", head[108:112])[0]))
    n_voxels = math.prod(max(1, side) for side in _sides(head, order))
    with gzip.open(path) if ending == ".nii.gz" else path.open("rb") as stream:
        raw = stream.read(begins + n_voxels * int(kind[1]))  # and not what lies behind
    count = (len(raw) - begins) // int(kind[1])
    voxels = np.frombuffer(raw, dtype=np.dtype(order + kind), count=count, offset=begins)
    bad = int((~np.isfinite(voxels)).sum())
    if bad:
        raise DataError(f"{path}: {bad} voxels are NaN or infinite")


def _order(head: bytes) -> str | None:
    """The byte order of a NIfTI-1 header, None of anything else."""
    if len(head) < _NIFTI_HEADER:
        return None
    return next((order for order in "<>" if struct.unpack(f"{order}i", head[:4])[0] == 348), None)


def _sides(head: bytes, order: str) -> list[int]:
    """The voxels along each axis."""
    count, *sides = struct.unpack(f"{order}8h", head[40:56])
    return [int(side) for side in sides[: max(count, 0)]]


def _unzipped_size(path: Path, needed: int) -> int:
    """Bytes behind a gzip; its last four say so of one in one piece, cheaply."""
    with path.open("rb") as stream:
        stream.seek(-4, 2)
        told = int(struct.unpack("<I", stream.read(4))[0])
    if needed <= told <= needed + 65536:
        return told
    size = 0
    try:
        with gzip.open(path) as unzipped:
            while size < needed and (part := unzipped.read(1 << 22)):
                size += len(part)
    except (EOFError, OSError, zlib.error):
        return 0
    return size


def _head(path: Path, n_bytes: int, *, zipped: bool = False) -> bytes:
    try:
        if zipped:
            with gzip.open(path) as unzipped:
                return unzipped.read(n_bytes)
        with path.open("rb") as stream:
            return stream.read(n_bytes)
    except (EOFError, OSError, zlib.error):
        return b""  # what reads the volume will say so


def _number(word: bytes) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
