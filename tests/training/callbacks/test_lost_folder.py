"""A run folder that is deleted, moved or replaced in training is not made anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from attnseg.common.errors import FAILED
from attnseg.runs.folder import RunFolder
from attnseg.training.callbacks.interruption import Interruption
from attnseg.training.fit import fit
from attnseg.training.launch import launch
from tests.conftest import configure


@pytest.mark.parametrize(
    ("fate", "words"),
    [
        ("deleted", ("logger=none",)),
        ("deleted", ("logger=wandb", "logger.log_every_n_steps=1")),
        ("deleted", ("logger=none", "callbacks.checkpoint.every_n_steps=1")),
        ("renamed", ("logger=none", "callbacks.overlays.every_n_epochs=1")),
        ("replaced", ("logger=none",)),
    ],
)
def test_the_run_stops_with_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fate: str,
    words: tuple[str, ...],
) -> None:
    folder, original = RunFolder(tmp_path / "run"), Interruption.on_train_batch_end
    others = {"state": "running", "id": "of a second start"}

    def strike(self: Interruption, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 3:
            if fate == "deleted":
                shutil.rmtree(folder.path)
            else:
                folder.path.rename(tmp_path / "away")
            if fate == "replaced":
                folder.path.mkdir()
                folder.status.write_text(json.dumps(others))
        original(self, trainer, *arguments)

    monkeypatch.setattr(Interruption, "on_train_batch_end", strike)
    assert fit(configure(folder.path, *words)) == FAILED
    err = capsys.readouterr().err
    assert err.count("was deleted, moved or taken by another process") == 1
    assert "Traceback" not in err
    if fate == "replaced":
        assert [path.name for path in folder.path.iterdir()] == ["status.json"]
        assert folder.read_status() == others
    else:
        assert not folder.path.exists()
    if fate == "renamed":
        moved = RunFolder(tmp_path / "away")
        assert moved.last.is_file()
        assert moved.read_status()["state"] == "running"


def test_the_ranks_of_a_group_stop_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from attnseg.training import launch as launch_module

    monkeypatch.setattr(launch_module, "WORKER", "tests.faulty")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    folder = RunFolder(tmp_path / "run")
    fault = {"what": "lose", "step": 2, "once": str(tmp_path / "fault"), "folder": str(folder.path)}
    monkeypatch.setenv("ATTNSEG_FAULT", json.dumps(fault))
    group = ("trainer=ddp_cpu", "trainer.accelerator=cpu", "data.batch_size=1")
    assert launch(configure(folder.path, *group, "logger=none")) == FAILED
    err = capfd.readouterr().err
    assert err.count("was deleted, moved or taken by another process") == 1
    assert "Traceback" not in err
    assert not folder.path.exists()
