"""Digests of files' bytes, remembered, so that a second start reads none of them."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from attnseg.common.files import write_atomically
from attnseg.common.paths import cache_folder
from attnseg.data.detached import data_files

SIZE = 16  # bytes of a digest: sha256, cut off
_SETTLED_NS = 2 * 10**9  # a file that changed later than so long ago may change within its clock
_MUCH = 200 << 20  # bytes that are worth a progress bar
_THREADS = 8
_WORD = 0xFFFFFFFFFFFFFFFF
_ENTRY = np.dtype([("path", "<u8"), ("state", "<u8", 4), ("digest", f"V{SIZE}")])

_State = tuple[int, int, int, int]
Value = TypeVar("Value")


class FileDigests:
    """Digests by path, size, times of change and inode, in one file that every run shares.

    The file is read whole and replaced whole, so that it needs no lock: of two processes that
    add to it at once, one may have to read its files again later. A damaged one is made anew.

    Args:
        folder: the cache's, from `cache_folder`.
        progress: draw a bar where much has to be read.
    """

    def __init__(self, folder: Path, *, progress: bool = True) -> None:
        self._store = folder / "digests" / "v1"
        self._progress = progress

    def of(self, paths: Sequence[Path]) -> dict[Path, bytes | OSError]:
        """The digest of each file, or why it cannot be read.

        A header counts with the files that its pixels lie in, a folder with all files below it.
        """
        parts: dict[Path, list[Path] | OSError] = {}
        states: dict[Path, _State] = {}
        for path in dict.fromkeys(paths):
            try:
                found = dict(_parts(path))
                states |= found
                parts[path] = list(found)
            except OSError as error:
                parts[path] = error
        digests = self._known_or_read(states)
        return {path: _joined(found, digests) for path, found in parts.items()}

    def _known_or_read(self, states: dict[Path, _State]) -> dict[Path, bytes | OSError]:
        files = list(states)
        wanted = np.zeros(len(files), _ENTRY)
        wanted["path"] = np.fromiter(map(_slot, files), "<u8", len(files))
        wanted["state"] = np.array([*states.values()], "<u8").reshape(-1, 4)
        stored = _read_store(self._store)
        known = _find(stored, wanted)
        digests: dict[Path, bytes | OSError] = {
            files[index]: wanted["digest"][index].tobytes() for index in np.flatnonzero(known)
        }
        missing = np.flatnonzero(~known)
        if not len(missing):
            return digests
        settled = []
        size = int(wanted["state"][missing, 0].sum())
        read = partial(_read, states)
        for index, (digest, lasting) in zip(
            missing, self._each(read, [files[i] for i in missing], size), strict=True
        ):
            digests[files[index]] = digest
            if lasting and isinstance(digest, bytes):
                wanted["digest"][index] = np.void(digest)
                settled.append(index)
        if settled:
            self._remember(stored, wanted[settled])
        return digests

    def _each(
        self, read: Callable[[Path], Value], files: list[Path], n_bytes: int
    ) -> Iterator[Value]:
        """What reading gives, in order; hashing and reading leave Python's lock alone."""
        with ThreadPoolExecutor(_THREADS) as pool:
            results = pool.map(read, files)
            if self._progress and n_bytes > _MUCH:
                from rich.console import Console
                from rich.progress import track

                text, console = "digest of the data", Console(stderr=True)
                results = iter(track(results, text, total=len(files), console=console))
            yield from results

    def _remember(self, stored: npt.NDArray[np.void], new: npt.NDArray[np.void]) -> None:
        kept = stored[~np.isin(stored["path"], new["path"])]
        both = np.concatenate([kept, new])
        content = both[np.argsort(both["path"], kind="stable")].tobytes()
        try:
            write_atomically(self._store, lambda f: f.write(_checksum(content) + content))
        except OSError as error:
            print(
                f"note: {self._store}: the data's digests cannot be kept ({error.strerror}), so "
                "the next start reads the files again; data.cache_dir=... chooses another place",
                file=sys.stderr,
            )


def digests_of(files: Sequence[Path]) -> list[str]:
    """Hex digits of each file's digest, remembered in the cache's usual folder.

    Raises:
        OSError: one cannot be read.
    """
    found = FileDigests(cache_folder(None), progress=False).of(files)
    digests = []
    for file in files:
        digest = found[file]
        if isinstance(digest, OSError):
            raise digest
        digests.append(digest.hex())
    return digests


def _parts(path: Path) -> Iterator[tuple[Path, _State]]:
    """The files whose bytes a path stands for, each with its state."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        files = sorted(each for each in path.rglob("*") if each.is_file())
        yield from ((each, _state(each.stat())) for each in files)
        return
    yield path, _state(found)
    for other in data_files(path, found.st_size):
        yield other, _state(other.stat())


def _state(found: os.stat_result) -> _State:
    whole = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    size, modified, changed, inode = (number & _WORD for number in whole)
    return size, modified, changed, inode


def _joined(found: list[Path] | OSError, digests: dict[Path, bytes | OSError]) -> bytes | OSError:
    """One digest of several files; the first error there is."""
    if isinstance(found, OSError):
        return found
    each = [digests[path] for path in found]
    for one in each:
        if isinstance(one, OSError):
            return one
    if len(each) == 1:
        return each[0]
    return hashlib.sha256(b"".join(one for one in each if isinstance(one, bytes))).digest()[:SIZE]


def _read(states: dict[Path, _State], path: Path) -> tuple[bytes | OSError, bool]:
    """A file's digest, and whether it may be remembered: the file is not being written to."""
    try:
        now = time.time_ns()
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()[:SIZE]
            found = os.fstat(stream.fileno())
    except OSError as error:
        return error, False
    young = now - found.st_ctime_ns < _SETTLED_NS or 0 <= now - found.st_mtime_ns < _SETTLED_NS
    return digest, _state(found) == states[path] and not young


def _slot(path: Path) -> int:
    """A file's place in the store."""
    text = str(path if path.is_absolute() else path.absolute())
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _find(stored: npt.NDArray[np.void], wanted: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Which of the wanted entries are stored; their digests are filled in."""
    if not len(stored):
        return np.zeros(len(wanted), bool)
    paths = np.ascontiguousarray(stored["path"])
    at = np.minimum(np.searchsorted(paths, wanted["path"]), len(stored) - 1)
    known: npt.NDArray[np.bool_] = (paths[at] == wanted["path"]) & (
        stored["state"][at] == wanted["state"]
    ).all(axis=1)
    wanted["digest"][known] = stored["digest"][at[known]]
    return known


def _read_store(path: Path) -> npt.NDArray[np.void]:
    """Every entry, by place; none where there is no store that is whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return np.zeros(0, _ENTRY)
    check, entries = content[:SIZE], content[SIZE:]
    if check != _checksum(entries) or len(entries) % _ENTRY.itemsize:
        return np.zeros(0, _ENTRY)
    return np.frombuffer(entries, _ENTRY)


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=SIZE).digest()
