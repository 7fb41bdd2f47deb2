"""Who trains in a folder, with the system's locks and without them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from attnseg.common.errors import ConfigError, FolderLostError
from attnseg.common.files import remove_temporaries, watched, write_text
from attnseg.runs import hold as module
from attnseg.runs.folder import RunFolder
from attnseg.runs.hold import STALE_S, Owner, alone, held, is_held

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@pytest.fixture(params=NO_LOCKS, ids=errno.errorcode.get)
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def sign(folder: Path, owner: Owner, age: float = 0.0) -> None:
    lock = folder / ".lock"
    lock.write_text(json.dumps(asdict(owner)))
    moment = time.time() - age
    os.utime(lock, (moment, moment))


def elsewhere(*, locked: bool) -> Owner:
    return replace(Owner.me(locked=locked), host="node7", machine="node7 boot", pid=1)


def test_without_locks_it_is_said_and_a_second_start_is_refused(
    tmp_path: Path, no_locks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(tmp_path):
        assert "without locks" in capsys.readouterr().out
        assert is_held(tmp_path)
        words = rf"process {os.getpid()} on .*last sign of life \d+ s ago"
        with pytest.raises(ConfigError, match=words), held(tmp_path):
            pass
    assert not is_held(tmp_path)
    with held(tmp_path):
        pass


def test_without_locks_a_dead_process_here_keeps_nothing(tmp_path: Path, no_locks: None) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    sign(tmp_path, replace(Owner.me(locked=False), pid=dead.pid))
    assert not is_held(tmp_path)
    reused = replace(
        Owner.me(locked=False), started="1"
    )  # the number of a process that began later
    sign(tmp_path, reused)
    assert not is_held(tmp_path)
    sign(tmp_path, Owner.me(locked=False), age=10 * STALE_S)
    assert is_held(tmp_path), "its process lives, however long it has been silent"


def test_without_locks_a_process_elsewhere_is_told_by_its_signs_of_life(
    tmp_path: Path, no_locks: None
) -> None:
    sign(tmp_path, elsewhere(locked=False), age=STALE_S - 30)
    assert is_held(tmp_path)
    with pytest.raises(ConfigError, match="process 1 on node7, last sign of life 27"):
        held(tmp_path).__enter__()
    sign(tmp_path, elsewhere(locked=False), age=STALE_S + 1)
    assert not is_held(tmp_path)
    with held(tmp_path):
        pass


def test_with_locks_an_owner_that_had_one_and_has_it_no_more_is_gone(tmp_path: Path) -> None:
    """A job that is requeued on another node must not wait."""
    sign(tmp_path, elsewhere(locked=True))
    assert not is_held(tmp_path)
    sign(tmp_path, elsewhere(locked=False))  # its node has no locks, this one has
    assert is_held(tmp_path)


def test_a_file_of_before_is_no_owner(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 12 on node7")
    assert not is_held(tmp_path)
    with held(tmp_path):
        assert is_held(tmp_path)


def test_signs_of_life_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    lock = tmp_path / ".lock"
    with held(tmp_path):
        os.utime(lock, (1.0, 1.0))
        deadline = time.monotonic() + 20
        while lock.stat().st_mtime == 1.0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert lock.read_text() == ""


def test_a_moment_alone_leaves_no_sign_and_no_time(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    lock.touch()
    os.utime(lock, (1.0, 1.0))
    with alone(tmp_path), pytest.raises(ConfigError, match="has not signed"), alone(tmp_path):
        pass
    assert lock.stat().st_mtime == 1.0
    assert lock.read_text() == ""
    lock.unlink()
    with alone(tmp_path):
        assert lock.stat().st_mtime == 0.0


@pytest.mark.parametrize("fate", ["deleted", "renamed", "replaced", "a file"])
def test_no_write_makes_a_lost_folder_anew(tmp_path: Path, fate: str) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    with folder.held():
        folder.update_status(state="running")
        folder.path.rename(tmp_path / "away")
        if fate == "replaced":
            folder.path.mkdir()
            with folder.path.joinpath(".lock").open("w"):
                pass
        elif fate == "a file":
            folder.path.write_text("")
        with pytest.raises(FolderLostError, match="was deleted, moved or taken"):
            folder.update_status(state="finished")
        folder.try_update_status(state="finished")
        with pytest.raises(FolderLostError):
            write_text(folder.last, "")
        write_text(tmp_path / "beside", "is nobody's business")
    left = sorted(path.name for path in folder.path.iterdir()) if folder.path.is_dir() else []
    assert left == ([".lock"] if fate == "replaced" else [])
    if fate == "replaced":
        assert not is_held(folder.path)


def test_without_locks_a_folder_that_another_has_taken_is_lost(
    tmp_path: Path, no_locks: None
) -> None:
    """A process that was stopped for long wakes up."""
    with held(tmp_path) as hold, watched(tmp_path, hold.check):
        write_text(tmp_path / "a", "")
        sign(tmp_path, elsewhere(locked=False))
        with pytest.raises(FolderLostError):
            write_text(tmp_path / "b", "")
    assert is_held(tmp_path), "the other keeps it"


def test_only_our_own_temporaries_are_removed(tmp_path: Path) -> None:
    for name in (".last.ckpt.123.tmp", ".notes.tmp", ".mine.x.tmp"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.x.tmp", ".notes.tmp"]
