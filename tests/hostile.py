"""Image files that claim to be far larger than they are, and names that are no text."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

SIDE = 60_000
NAMES = (b"\xe9t\xe9", b"new\nline", b"quotes'\"&<b>", b"%s {0} $HOME", b"n" * 240)
"""Of files, without ending: not UTF-8, odd, long."""


def named(folder: Path, name: bytes, ending: str) -> Path:
    """The path of a file of that name."""
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name + ending.encode()))


def _png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(bytes(9999)))
        + chunk(b"IEND", b"")
    )


def _tiff(side: int) -> bytes:
    fields = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1)]
    fields += [(278, side), (279, side)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)


def _nifti(side: int) -> bytes:
    side = min(side, 32_767)
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 2, side, side, 1, 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    return bytes(head)


def _mha(side: int) -> bytes:
    return (
        f"ObjectType = Image\nNDims = 2\nDimSize = {side} {side}\nElementType = MET_UCHAR\n"
        "CompressedData = True\nElementDataFile = LOCAL\n"
    ).encode() + zlib.compress(bytes(99))


def _nrrd(side: int) -> bytes:
    return (
        f"NRRD0004\ntype: uint8\ndimension: 2\nsizes: {side} {side}\nencoding: gzip\n\n"
    ).encode() + gzip.compress(bytes(99))


def _jpeg(side: int) -> bytes:
    quantisation = b"\xff\xdb\x00\x43\x00" + bytes([1] * 64)
    frame = b"\xff\xc0\x00\x0b\x08" + struct.pack(">HH", side, side) + b"\x01\x01\x11\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    return b"\xff\xd8" + quantisation + frame + scan + bytes(20) + b"\xff\xd9"


BOMBS: dict[str, Callable[[int], bytes]] = {
    ".png": _png,
    ".tif": _tiff,
    ".nii": _nifti,
    ".nii.gz": lambda side: gzip.compress(_nifti(side)),
    ".mha": _mha,
    ".nrrd": _nrrd,
    ".jpg": _jpeg,
}
"""The bytes of an image of that side, by ending."""
