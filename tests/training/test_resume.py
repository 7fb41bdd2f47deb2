"""A new beginning deletes nothing of value unasked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from attnseg.common.errors import ConfigError
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from attnseg.training.fit import fit
from attnseg.training.resume import refuse_to_begin_over
from tests.conftest import configure

ROW = "epoch,phase,step\n"


def begun(
    path: Path, status: dict[str, Any] | None, rows: int, checkpoints: tuple[str, ...]
) -> RunFolder:
    folder = RunFolder(path)
    folder.best.parent.mkdir(parents=True)
    for name in checkpoints:
        (folder.best.parent / name).write_bytes(b"")
    if status is not None:
        folder.status.write_text(json.dumps(status))
    if rows:
        folder.ledger.write_text(ROW + "".join(f"{n},a,{n}\n" for n in range(1, rows + 1)))
    return folder


DONE = {"state": "interrupted", "epoch": 3}
FIRST = {"state": "running"}  # no epoch has been saved


@pytest.mark.parametrize(
    ("status", "rows", "checkpoints", "named"),
    [
        (DONE, 3, ("best.ckpt",), ["checkpoints/best.ckpt", "metrics.csv (3 epochs)", "resume="]),
        (DONE, 3, (), ["metrics.csv (3 epochs)"]),
        (DONE, 0, ("best.ckpt",), ["checkpoints/best.ckpt"]),
        (DONE, 1, (), ["metrics.csv (1 epochs)"]),
        (None, 1, (), ["metrics.csv"]),
        (None, 0, ("best.ckpt",), ["best.ckpt"]),
        (FIRST, 0, ("best.ckpt",), ["best.ckpt"]),  # an epoch's row comes before its best.ckpt
        (FIRST, 2, (), ["metrics.csv"]),
        (FIRST, 1, ("mine.ckpt",), ["checkpoints/mine.ckpt"]),
    ],
)
def test_what_is_of_value_is_named(
    tmp_path: Path, status: Any, rows: int, checkpoints: tuple[str, ...], named: list[str]
) -> None:
    with pytest.raises(ConfigError, match="resume=none does that") as caught:
        refuse_to_begin_over(begun(tmp_path, status, rows, checkpoints))
    for word in named:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("status", "rows", "checkpoints"),
    [
        (None, 0, ()),
        (FIRST, 0, ()),
        (FIRST, 1, ()),
        (FIRST, 1, ("best.ckpt",)),
        ({"state": "failed"}, 1, ("best.ckpt",)),
        (FIRST, 0, (".last.ckpt.12.tmp",)),
    ],
)
def test_a_run_that_was_killed_in_its_first_epoch_begins_anew(
    tmp_path: Path, status: Any, rows: int, checkpoints: tuple[str, ...]
) -> None:
    refuse_to_begin_over(begun(tmp_path, status, rows, checkpoints))


def test_a_run_that_somebody_else_has_trained_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give the same command again"):
        refuse_to_begin_over(begun(tmp_path, FIRST, 0, ("last.ckpt",)))


def test_training_asks_for_resume_none_and_then_begins_anew(
    tmp_path: Path, finished: RunFolder
) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(finished.path, folder.path)
    folder.last.unlink()
    folder.update_status(state="interrupted")
    before = folder.best.read_bytes(), folder.ledger.read_bytes()
    with pytest.raises(ConfigError, match=r"no checkpoints/last\.ckpt to go on from"):
        fit(configure(folder.path))
    assert (folder.best.read_bytes(), folder.ledger.read_bytes()) == before
    assert folder.read_status()["state"] == "interrupted"
    (mine := folder.best.with_name("mine.ckpt")).write_bytes(b"mine")
    assert fit(configure(folder.path, "resume=none")) == 0
    assert folder.last.is_file()
    assert len(read_ledger(folder.ledger)) == 2
    assert mine.read_bytes() == b"mine"
