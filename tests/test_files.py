"""Atomic writes: the target is the old content or the new, never a part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

import pytest

from attnseg.files import replace_folder, write_atomically, write_json


def test_a_failed_write_leaves_the_old_content_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def fail(stream: IO[bytes]) -> None:
        stream.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_nan_never_reaches_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    place = tmp_path / "case"
    for content in ("first", "second"):
        new = tmp_path / f".new-{content}"
        new.mkdir()
        (new / content).touch()
        replace_folder(new, place)
        assert [path.name for path in place.iterdir()] == [content]
    assert list(tmp_path.iterdir()) == [place]
