"""A damaged metrics.csv is told and mended from the checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attnseg.runs.checkpoints import read_checkpoint, save_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.training.fit import fit
from tests.conftest import configure

WORDS = ("schedule.total_epochs=3", "callbacks.overlays.every_n_epochs=0", "logger=none")


@pytest.fixture(scope="module")
def two_of_three(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that stopped after two of three epochs."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "two")
    assert fit(configure(folder.path, *WORDS, "trainer.max_epochs=2")) == 0
    return folder


@pytest.fixture(scope="module")
def whole(two_of_three: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The ledger of the same run, undamaged."""
    copy = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    shutil.copytree(two_of_three.path, copy.path)
    assert fit(configure(copy.path, *WORDS)) == 0
    return copy.ledger.read_bytes()


@pytest.mark.parametrize(
    ("kept", "tail", "told"),
    [
        (-20, b"", "line 3 is cut off or damaged, and does not count; the rows of epochs 2 are"),
        (-20, b"\0" * 20, "the rows of epochs 2 are mended from the checkpoint"),
        (None, b"3,ab", "line 4 is cut off"),
        (0, b"", "the rows of epochs 1, 2 are mended"),
    ],
)
def test_it_is_mended_from_the_checkpoint(
    two_of_three: RunFolder,
    whole: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kept: int | None,
    tail: bytes,
    told: str,
) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(two_of_three.path, folder.path)
    folder.ledger.write_bytes(folder.ledger.read_bytes()[:kept] + tail)
    assert fit(configure(folder.path, *WORDS)) == 0
    assert told in capsys.readouterr().out
    assert folder.ledger.read_bytes() == whole


def test_a_checkpoint_of_before_says_what_is_lost(
    two_of_three: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(two_of_three.path, folder.path)
    content = read_checkpoint(folder.last)
    del content["callbacks"]["LedgerWriter"]["rows"]
    save_checkpoint(content, folder.last)
    folder.ledger.write_bytes(folder.ledger.read_bytes()[:-20])
    assert fit(configure(folder.path, *WORDS)) == 0
    assert "does not hold the rows of epochs 2" in capsys.readouterr().out
    assert [line[:2] for line in folder.ledger.read_text().splitlines()[1:]] == ["1,", "3,"]
