"""Decoded cases on disk: after the first epoch no image file is opened again.

One `.npy` file a case holds a single structured record (X-ray, DRR and mask at the model's
size, each in its own dtype, with statistics and spacing), so that a patch is read through a
memory map without the rest. Files are written beside their place and moved there: a reader
sees a whole entry or none, and two processes may build the same one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg.data.case import Case, CaseImages, Source, Spacing
from attnseg.data.parallel import for_each
from attnseg.data.resize import fit_images
from attnseg.errors import ConfigError, DataError

CACHE_VERSION = 1
_CHECKSUM = "checksum"


@dataclass(frozen=True)
class Decoded:
    """A case at the model's size, before padding; the arrays are read-only memory maps.

    Attributes:
        xray: (H, W) in the source's dtype (or float32); the longer side is the model's size.
        drr: (H, W), like `xray`.
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


def cache_folder(configured: str | None) -> Path:
    """`configured`, else $ATTNSEG_CACHE, else ~/.cache/attnseg."""
    chosen = configured or os.environ.get("ATTNSEG_CACHE") or "~/.cache/attnseg"
    return Path(chosen).expanduser()


def decode_images(images: CaseImages, size: int) -> Decoded:
    """What the cache would hold of a case, without a cache: `attnseg predict` reads images once."""
    return _decode(_encode(fit_images(images, size)))


class DecodedCache:
    """Cases of one source, decoded, scaled to `size` and kept on disk.

    Args:
        source: decodes what is not there yet; its fingerprints are the keys.
        size: px of the longer side.
        folder: from `cache_folder`.
    """

    def __init__(self, source: Source, size: int, folder: Path) -> None:
        self.source = source
        self.size = size
        self.folder = folder / "decoded" / f"v{CACHE_VERSION}"
        self._paths: dict[str, Path] = {}
        self._trusted: set[str] = set()
        self._layouts: dict[Path, tuple[np.dtype[np.void], tuple[int, ...], int]] = {}

    def get(self, case: Case) -> Decoded:
        """The decoded case, from disk where it is there and whole, else built and stored.

        Raises:
            DataError: the source cannot decode the case.
            ConfigError: the cache cannot be written.
        """
        path = self._path(case)
        record = self._read(case.case_id, path)
        if record is None:
            record = _encode(fit_images(_checked(self.source.load(case), case), self.size))
            self._write(path, record)
            self._trusted.add(case.case_id)
        return _decode(record)

    def warm(
        self, cases: Sequence[Case], *, workers: int | None = None, progress: bool = True
    ) -> None:
        """Build what is missing, in a few processes where there is much to do.

        Raises:
            DataError: lists the problems of every case that cannot be decoded.
            ConfigError: the cache cannot be written.
        """
        missing = [case for case in cases if self._read(case.case_id, self._path(case)) is None]
        if not missing:
            return
        self._make_folder()
        results = for_each(
            self._build, missing, description="decoding cases", workers=workers, progress=progress
        )
        problems = [problem for found in results for problem in found]
        if problems:
            raise DataError("the data set has cases that cannot be used:", problems)
        self._trusted.update(case.case_id for case in missing)

    def _build(self, case: Case) -> list[str]:
        try:
            self.get(case)
        except DataError as error:
            return error.problems or [error.headline]
        return []

    def _path(self, case: Case) -> Path:
        # A fingerprint asks the file system; once a process is enough.
        path = self._paths.get(case.case_id)
        if path is None:
            key = f"{self.source.fingerprint(case)}|{self.size}"
            digest = hashlib.sha256(key.encode()).hexdigest()[:40]
            path = self._paths[case.case_id] = self.folder / digest[:2] / f"{digest}.npy"
        return path

    def _read(self, case_id: str, path: Path) -> npt.NDArray[np.void] | None:
        """The stored record, or None where it is missing or damaged."""
        try:
            record = self._map(path)
            if case_id not in self._trusted:  # the checksum reads everything: once a process
                if record[_CHECKSUM].tolist() != [_checksum(record)]:
                    return None
                self._trusted.add(case_id)
        except Exception:  # a damaged header can raise anything, from OSError to TokenError
            return None
        return record

    def _map(self, path: Path) -> npt.NDArray[np.void]:
        """An entry's memory map; np.load opens a file three times, so it reads the header once."""
        layout = self._layouts.get(path)
        if layout is not None:
            dtype, shape, offset = layout
            return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
        record: npt.NDArray[np.void] = np.load(path, mmap_mode="r")
        if isinstance(record, np.memmap):
            self._layouts[path] = record.dtype, record.shape, record.offset
        return record

    def _write(self, path: Path, record: npt.NDArray[np.void]) -> None:
        self._layouts.pop(path, None)
        temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as stream:
                np.save(stream, record)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise self._unwritable(error) from None

    def _make_folder(self) -> None:
        """Fail before the first process starts, and in one message."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.folder}: the cache cannot be written ({error.strerror}); "
            "choose another folder with data.cache_dir=... or $ATTNSEG_CACHE"
        )


def _checked(images: CaseImages, case: Case) -> CaseImages:
    for name, pixels in (("xray", images.xray), ("drr", images.drr)):
        if not np.isfinite(pixels).all():
            raise DataError(f"case {case.case_id}: its {name} has NaN or infinite pixels")
    return images


def _encode(images: CaseImages) -> npt.NDArray[np.void]:
    """One structured record; small numbers first, so that the images stay aligned."""
    xray, drr = _compact(images.xray), _compact(images.drr)
    shape = images.mask.shape
    layout = np.dtype(
        [
            (_CHECKSUM, "<u4"),
            ("n_foreground", "<u4"),
            ("mean", "<f8", (2,)),
            ("std", "<f8", (2,)),
            ("spacing", "<f8", (2,)),
            ("xray", xray.dtype, shape),
            ("drr", drr.dtype, shape),
            ("mask", "u1", shape),
        ]
    )
    record = np.zeros(1, dtype=layout)
    record["n_foreground"] = int(images.mask.sum())
    record["mean"] = [pixels.mean(dtype=np.float64) for pixels in (xray, drr)]
    record["std"] = [pixels.std(dtype=np.float64) or 1.0 for pixels in (xray, drr)]
    record["spacing"] = images.spacing or (np.nan, np.nan)
    record["xray"], record["drr"], record["mask"] = xray, drr, images.mask
    record[_CHECKSUM] = _checksum(record)
    return record


def _compact(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    small = pixels.dtype in (np.uint8, np.uint16, np.int16)
    return pixels if small else pixels.astype(np.float32)


def _decode(record: npt.NDArray[np.void]) -> Decoded:
    row, column = (float(value) for value in record["spacing"][0])
    return Decoded(
        xray=np.asarray(record["xray"][0]),
        drr=np.asarray(record["drr"][0]),
        mask=np.asarray(record["mask"][0]),
        mean=(float(record["mean"][0, 0]), float(record["mean"][0, 1])),
        std=(float(record["std"][0, 0]), float(record["std"][0, 1])),
        n_foreground=int(record["n_foreground"][0]),
        spacing=None if np.isnan(row) else (row, column),
    )


def _checksum(record: npt.NDArray[np.void]) -> int:
    """CRC-32 of the layout and of everything after the checksum itself (the first four bytes)."""
    layout = zlib.crc32(str(record.dtype).encode())
    return zlib.crc32(np.asarray(record).view(np.uint8)[4:].data, layout)
