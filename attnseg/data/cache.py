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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.parallel import for_each
from attnseg.data.record import (
    CHECKSUM,
    Decoded,
    Head,
    checksum,
    decode,
    encode,
    is_one_image,
    map_record,
    read_head,
)
from attnseg.data.sources.base import Source
from attnseg.imaging.case import Case, CaseImages
from attnseg.imaging.pictures import LENGTH, sketches_of
from attnseg.imaging.resize import fit_images

CACHE_VERSION = 3


def decode_images(images: CaseImages, size: int) -> Decoded:
    """What the cache would hold of a case, without a cache: `attnseg predict` reads images once."""
    record = encode(fit_images(images, size))
    return decode(record, one_image=is_one_image(record))


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
        self._keys: dict[str, bytes] = {}  # digests, since 100,000 paths take 20 MB
        self._heads: dict[str, Head] = {}
        # Cases whose checksum was right, and whether one image serves both pathways.
        self._trusted: dict[str, bool] = {}

    def get(self, case: Case) -> Decoded:
        """The decoded case, from disk where it is there and whole, else built and stored.

        Raises:
            DataError: the source cannot decode the case.
            ConfigError: the cache cannot be written.
        """
        path = self._path(case)
        record = self._read(case, path)
        if record is None:
            images = _checked(self.source.load(case), case)
            record = encode(fit_images(images, self.size), sketches_of(images))
            self._heads.pop(case.case_id, None)
            self._write(path, record)
            self._trusted[case.case_id] = is_one_image(record)
        return decode(record, one_image=self._trusted[case.case_id])

    def n_foreground(self, case: Case) -> int:
        """Mask pixels of a case; of one that is on disk, the first page is read once a process.

        Raises:
            DataError, ConfigError: as `get`.
        """
        head = self._head(case)
        return head.n_foreground if head is not None else self.get(case).n_foreground

    def sketches(self, cases: Sequence[Case]) -> npt.NDArray[np.int16]:
        """(n, 2, 33): what `pictures` tells X-rays and DRRs apart by, from the first pages alone.

        Raises:
            DataError, ConfigError: as `get`.
        """
        found = np.empty((len(cases), 2, LENGTH), np.int16)
        for row, case in zip(found, cases, strict=True):
            head = self._head(case)
            if head is None:
                self.get(case)
                head = self._head(case)
                assert head is not None
            row[:] = np.frombuffer(head.sketches, "<i2").reshape(2, LENGTH)
        return found

    def warm(
        self, cases: Sequence[Case], *, workers: int | None = None, progress: bool = True
    ) -> None:
        """Build what is missing, in a few processes where there is much to do.

        Of an entry that is there the first page and the size are looked at, so that a start does
        not read the whole set; `get` compares the checksum when it reads the pixels, and builds
        a damaged entry again.

        Raises:
            DataError: lists the problems of every case that cannot be decoded.
            ConfigError: the cache cannot be written.
        """
        missing = [case for case in cases if self._head(case) is None]
        if not missing:
            return
        self._make_folder()
        results = for_each(
            self._build, missing, description="decoding cases", workers=workers, progress=progress
        )
        problems = [problem for found in results for problem in found]
        if problems:
            raise DataError("the data set has cases that cannot be used:", problems)

    def _build(self, case: Case) -> list[str]:
        try:
            self.get(case)
        except DataError as error:
            return error.problems or [error.headline]
        return []

    def _path(self, case: Case) -> Path:
        # A fingerprint asks the file system; once a process is enough.
        digest = self._keys.get(case.case_id)
        if digest is None:
            key = f"{self.source.fingerprint(case)}|{self.size}"
            digest = self._keys[case.case_id] = hashlib.sha256(os.fsencode(key)).digest()[:20]
        name = digest.hex()
        return self.folder / name[:2] / f"{name}.npy"

    def _head(self, case: Case) -> Head | None:
        """What the first page of an entry tells, None where it is missing or damaged."""
        head = self._heads.get(case.case_id)
        if head is None:
            try:
                head = self._heads[case.case_id] = read_head(self._path(case))
            except Exception:  # a damaged header can raise anything, from OSError to TokenError
                return None
        return head

    def _read(self, case: Case, path: Path) -> npt.NDArray[np.void] | None:
        """The stored record, or None where it is missing or damaged."""
        head = self._head(case)
        if head is None:
            return None
        try:
            record = map_record(path, head.layout)
        except (OSError, ValueError):  # gone, or cut short, since its head was read
            return None
        if case.case_id not in self._trusted:  # the checksum reads everything: once a process
            if record[CHECKSUM].tolist() != [checksum(record)]:
                return None
            self._trusted[case.case_id] = is_one_image(record)
        return record

    def _write(self, path: Path, record: npt.NDArray[np.void]) -> None:
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
