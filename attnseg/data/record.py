"""A decoded case as one structured record: what an entry of the decoded cache holds.

The file is NumPy's .npy (version 1): 10 bytes, a header, then checksum, n_foreground, mean, std,
spacing and sketches (see `pictures`), and the pixels of X-ray, DRR and mask, each in its own dtype.

Cases of one shape share one header, so its text is understood once a process; `read_head` reads
the first page of an entry alone.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg.imaging.case import CaseImages, Spacing
from attnseg.imaging.pictures import LENGTH

CHECKSUM = "checksum"
_NUMBERS = (CHECKSUM, "n_foreground", "mean", "std", "spacing", "sketches")
_PAGE = 4096  # bytes; header and small numbers take about 700
_PREFIX = 10  # bytes before the header: magic, version, length


@dataclass(frozen=True)
class Decoded:
    """A case at the model's size, before padding; the arrays are views of a read-only memory map.

    Attributes:
        xray: (H, W) in the source's dtype (or float32); the longer side is the model's size.
        drr: (H, W), like `xray`; the same array where one image serves both pathways.
        mask: (H, W) uint8, 0 or 1.
        mean: of xray, drr over the whole image.
        std: of xray, drr over the whole image, 1 where the image is constant.
        n_foreground: mask pixels.
        spacing: mm per pixel (row, column) at this size, None where unknown.
    """

    xray: npt.NDArray[Any]
    drr: npt.NDArray[Any]
    mask: npt.NDArray[np.uint8]
    mean: tuple[float, float]
    std: tuple[float, float]
    n_foreground: int
    spacing: Spacing | None


@dataclass(frozen=True)
class Layout:
    """Where the record of a file begins, and what it is made of."""

    dtype: np.dtype[np.void]
    offset: int


@dataclass(frozen=True, slots=True)
class Head:
    """What the first page of an entry tells."""

    layout: Layout
    n_foreground: int
    sketches: bytes  # of X-ray and DRR, (2, 33) int16


def read_head(path: str | Path) -> Head:
    """One open, one read; the pixels are not looked at, their number is.

    Raises:
        Exception: missing or damaged; which one depends on the damage.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        page = os.read(handle, _PAGE)
        n_bytes = os.fstat(handle).st_size
    finally:
        os.close(handle)
    header = page[: _PREFIX + int.from_bytes(page[8:_PREFIX], "little")]
    layout = _layout(header)
    if not {*_NUMBERS, "xray", "drr", "mask"} <= set(layout.dtype.names or ()):
        raise ValueError("another record")
    if n_bytes != layout.offset + layout.dtype.itemsize:
        raise ValueError(f"{n_bytes} bytes")
    assert layout.dtype.fields is not None
    kind, offset = layout.dtype.fields["n_foreground"][:2]
    n_foreground = int(np.frombuffer(page, kind, 1, layout.offset + offset)[0])
    begin = layout.offset + layout.dtype.fields["sketches"][1]
    if n_foreground > layout.dtype["mask"].itemsize:
        raise ValueError(f"{n_foreground} mask pixels")
    return Head(layout, n_foreground, page[begin : begin + layout.dtype["sketches"].itemsize])


def map_record(path: str | Path, layout: Layout) -> npt.NDArray[np.void]:
    """A file's record (1,), read-only and not read yet.

    Raises:
        OSError, ValueError: it is gone, or shorter than its layout.
    """
    # Not np.memmap: its resolved paths and subclassed views cost more than the reading.
    handle = os.open(path, os.O_RDONLY)
    try:
        n_bytes = layout.offset + layout.dtype.itemsize
        mapped = mmap.mmap(handle, n_bytes, access=mmap.ACCESS_READ)
    finally:
        os.close(handle)
    return np.frombuffer(mapped, layout.dtype, 1, layout.offset)


@lru_cache(maxsize=4096)
def _layout(header: bytes) -> Layout:
    stream = io.BytesIO(header)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not our version of .npy")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if shape != (1,) or dtype.names is None:
        raise ValueError("not a record")
    return Layout(dtype, stream.tell())


def encode(
    images: CaseImages, sketches: npt.NDArray[np.int16] | None = None
) -> npt.NDArray[np.void]:
    """One structured record; small numbers first, so that the images stay aligned.

    Args:
        images: at the model's size.
        sketches: (2, 33) of X-ray and DRR before they were scaled, which rounds; None: zeros.
    """
    xray, drr = _compact(images.xray), _compact(images.drr)
    shape = images.mask.shape
    layout = np.dtype(
        [
            (CHECKSUM, "<u4"),
            ("n_foreground", "<u4"),
            ("mean", "<f8", (2,)),
            ("std", "<f8", (2,)),
            ("spacing", "<f8", (2,)),
            ("sketches", "<i2", (2, LENGTH)),
            ("xray", xray.dtype, shape),
            ("drr", drr.dtype, shape),
            ("mask", "u1", shape),
        ]
    )
    record = np.zeros(1, dtype=layout)
    record["n_foreground"] = int(images.mask.sum())
    record["mean"] = [pixels.mean(dtype=np.float64) for pixels in (xray, drr)]
    record["std"] = [pixels.std(dtype=np.float64) or 1.0 for pixels in (xray, drr)]
    record["sketches"] = 0 if sketches is None else sketches
    record["spacing"] = images.spacing or (np.nan, np.nan)
    record["xray"], record["drr"], record["mask"] = xray, drr, images.mask
    record[CHECKSUM] = checksum(record)
    return record


def _compact(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    small = pixels.dtype in (np.uint8, np.uint16, np.int16)
    return pixels if small else pixels.astype(np.float32)


def decode(record: npt.NDArray[np.void], *, one_image: bool = False) -> Decoded:
    """Views of a record; of one on disk, the pixels are read when they are used.

    Args:
        record: from `encode` or `map_record`.
        one_image: what `is_one_image` says of it; the X-ray's copy is then never read.
    """
    row, column = record["spacing"][0].tolist()
    drr = record["drr"][0]
    return Decoded(
        xray=drr if one_image else record["xray"][0],
        drr=drr,
        mask=record["mask"][0],
        mean=tuple(record["mean"][0].tolist()),
        std=tuple(record["std"][0].tolist()),
        n_foreground=int(record["n_foreground"][0]),
        spacing=None if math.isnan(row) else (row, column),
    )


def is_one_image(record: npt.NDArray[np.void]) -> bool:
    """Whether X-ray and DRR are the same pixels: most sets have one image for both pathways."""
    assert record.dtype.fields is not None
    same_kind = record.dtype.fields["xray"][0] == record.dtype.fields["drr"][0]
    return same_kind and bool(np.array_equal(record["xray"], record["drr"]))


def checksum(record: npt.NDArray[np.void]) -> int:
    """CRC-32 of the layout and of everything after the checksum itself (the first four bytes)."""
    layout = zlib.crc32(str(record.dtype).encode())
    return zlib.crc32(np.asarray(record).view(np.uint8)[4:].data, layout)
