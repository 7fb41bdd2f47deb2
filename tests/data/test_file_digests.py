"""Digests of files: what is read again, and what is not."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from attnseg.data import file_digests
from attnseg.data.file_digests import FileDigests


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are opened; all files count as old enough."""
    names: list[str] = []
    original = file_digests._read

    def noted(states: object, path: Path) -> object:
        names.append(path.name)
        return original(states, path)  # type: ignore[arg-type]

    monkeypatch.setattr(file_digests, "_read", noted)
    monkeypatch.setattr(file_digests, "_SETTLED_NS", 0)
    return names


def _of(folder: Path, *paths: Path) -> list[bytes]:
    found = FileDigests(folder / "cache").of(paths)
    assert all(isinstance(digest, bytes) for digest in found.values())
    return [digest for digest in found.values() if isinstance(digest, bytes)]


def _files(folder: Path, count: int = 3) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.bin" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 100)
    return paths


def test_a_second_start_reads_nothing(tmp_path: Path, read: list[str]) -> None:
    paths = _files(tmp_path / "set")
    first = _of(tmp_path, *paths)
    assert first == [hashlib.sha256(path.read_bytes()).digest()[:16] for path in paths]
    assert read == ["0.bin", "1.bin", "2.bin"]
    read.clear()
    assert _of(tmp_path, *reversed(paths)) == first[::-1]
    assert read == []


def test_what_is_overwritten_in_place_is_read_again(tmp_path: Path, read: list[str]) -> None:
    """Though size and time of change are put back."""
    paths = _files(tmp_path / "set")
    before = _of(tmp_path, *paths)
    old = paths[1].stat()
    paths[1].write_bytes(b"x" * 100)
    os.utime(paths[1], ns=(old.st_atime_ns, old.st_mtime_ns))
    read.clear()
    after = _of(tmp_path, *paths)
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]
    assert read == ["1.bin"]


def test_another_file_in_the_place_is_read(tmp_path: Path, read: list[str]) -> None:
    """Of the same size and time, moved there: its inode is another."""
    one, other, _ = _files(tmp_path / "set")
    [before] = _of(tmp_path, one)
    shutil.copystat(one, other)
    other.replace(one)
    assert _of(tmp_path, one) != [before]


def test_a_file_that_has_just_changed_is_not_trusted(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digests, "_SETTLED_NS", 2 * 10**9)
    [path] = _files(tmp_path / "set", 1)
    _of(tmp_path, path)
    _of(tmp_path, path)
    assert len(read) == 2
    assert not (tmp_path / "cache").exists()
    past = time.time_ns() + 3 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: past)
    _of(tmp_path, path)
    _of(tmp_path, path)
    assert len(read) == 3


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_store_is_made_anew(
    tmp_path: Path, read: list[str], damage: bytes | None
) -> None:
    paths = _files(tmp_path / "set")
    first = _of(tmp_path, *paths)
    store = tmp_path / "cache" / "digests" / "v1"
    whole = store.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    store.write_bytes(flipped if damage is None else damage)
    read.clear()
    assert _of(tmp_path, *paths) == first
    assert len(read) == 3
    assert store.read_bytes() == whole


def test_sets_share_a_store(tmp_path: Path, read: list[str]) -> None:
    one, two = _files(tmp_path / "one"), _files(tmp_path / "two", 5)
    _of(tmp_path, *one)
    _of(tmp_path, *two)
    read.clear()
    assert _of(tmp_path, *one, *two)[:3] == _of(tmp_path, *two)[:3]
    assert read == []


def test_a_cache_that_cannot_be_written_is_told(
    tmp_path: Path, read: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    assert len(_of(tmp_path, *_files(tmp_path / "set"))) == 3
    assert "so the next start reads the files again" in capsys.readouterr().err


def test_what_cannot_be_read_is_told_apart(tmp_path: Path) -> None:
    there, [missing] = _files(tmp_path / "set", 1), [tmp_path / "none.bin"]
    found = FileDigests(tmp_path / "cache").of([*there, missing])
    assert isinstance(found[missing], FileNotFoundError)
    assert isinstance(found[there[0]], bytes)


def test_a_header_counts_with_its_pixels_and_a_folder_with_its_files(tmp_path: Path) -> None:
    header, raw = tmp_path / "a.mhd", tmp_path / "a.raw"
    header.write_text("ElementDataFile = a.raw\n")
    raw.write_bytes(b"one")
    inside = _files(tmp_path / "series")[2]
    before = _of(tmp_path, header, inside.parent)
    raw.write_bytes(b"two")
    middle = _of(tmp_path, header, inside.parent)
    inside.write_bytes(b"two")
    after = _of(tmp_path, header, inside.parent)
    assert before[0] != middle[0] == after[0]
    assert before[1] == middle[1] != after[1]
    raw.unlink()
    assert isinstance(FileDigests(tmp_path / "cache").of([header])[header], FileNotFoundError)
