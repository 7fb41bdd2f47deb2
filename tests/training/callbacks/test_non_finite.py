"""A run that diverges fails: nothing is measured of NaN, and nothing good is overwritten."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnseg.cli import main
from attnseg.common.errors import FAILED, CheckpointError
from attnseg.common.finite import broken_state
from attnseg.config import TrainConfig
from attnseg.runs.checkpoints import load_checkpoints, read_checkpoint, save_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from attnseg.training.callbacks.interruption import Interruption
from attnseg.training.fit import fit
from attnseg.training.launch import launch
from attnseg.training.module import AttnSegModule
from tests.conftest import configure

ONE_STEP = ("data.batch_size=4", "callbacks.overlays.every_n_epochs=0", "logger=none")
Spoil = Callable[[AttnSegModule, dict[str, torch.Tensor], bool], object]


def small(folder: Path, *words: str) -> TrainConfig:
    return configure(folder, *ONE_STEP, *words)


def spoiling(monkeypatch: pytest.MonkeyPatch, spoil: Spoil) -> None:
    """Let `spoil(module, terms, learn)` change what a step gave."""
    original = AttnSegModule._step

    def step(self: AttnSegModule, batch: Any, *, learn: bool) -> dict[str, torch.Tensor]:
        terms = original(self, batch, learn=learn)
        spoil(self, terms, learn)
        return terms

    monkeypatch.setattr(AttnSegModule, "_step", step)


def failed(folder: RunFolder, *words: str) -> str:
    """The reason of a failed run, which holds all the words and saved nothing that is broken."""
    status = folder.read_status()
    assert status["state"] == "failed"
    for word in words:
        assert word in status["reason"], (word, status["reason"])
    for path in (folder.last, folder.best):
        assert not path.exists() or not broken_state(read_checkpoint(path))
    return str(status["reason"])


def test_weights_of_a_rate_of_1e30_are_not_measured_and_not_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    assert fit(small(folder.path, "optim.lr=1e30")) == FAILED
    reason = failed(folder, "the validation of epoch 1 is not finite", "No checkpoint had been")
    assert reason in capsys.readouterr().err
    assert not folder.best.exists()
    assert not folder.last.exists()
    assert read_ledger(folder.ledger) == []


@pytest.mark.parametrize(("value", "where"), [(math.nan, "mask_logits"), (math.inf, "attention")])
def test_a_case_of_the_validation_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, where: str
) -> None:
    named: list[str] = []

    def spoil(module: AttnSegModule, terms: Any, learn: bool) -> None:
        if not learn and module.current_epoch == 1 and not named:
            getattr(module.record.step.output, where)[0, 0, 0, 0] = value
            named.append(module.record.step.batch["case_id"][0])

    spoiling(monkeypatch, spoil)
    folder = RunFolder(tmp_path)
    assert fit(small(folder.path)) == FAILED
    reason = failed(folder, "the validation of epoch 2", where.replace("_", " "), named[0])
    assert "last.ckpt (of epoch 1) and best.ckpt (of epoch 1) are from before it" in reason
    assert [row["epoch"] for row in read_ledger(folder.ledger)] == ["1"]


def test_a_validation_loss_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(module: AttnSegModule, terms: Any, learn: bool) -> None:
        if not learn:
            terms_of_step: Any = module.record.step.terms
            terms_of_step["segmentation"] = torch.tensor(math.inf)

    spoiling(monkeypatch, spoil)
    folder = RunFolder(tmp_path)
    assert fit(small(folder.path)) == FAILED
    failed(folder, "the validation of epoch 1", "segmentation=inf", "No checkpoint")


@pytest.mark.parametrize("stop", ["true", "false"])
def test_a_training_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    """Without the guard it goes on to the validation, and never past it."""

    def spoil(module: AttnSegModule, terms: Any, learn: bool) -> None:
        if learn:
            terms["total"] = terms["total"] * math.nan

    spoiling(monkeypatch, spoil)
    folder = RunFolder(tmp_path)
    assert fit(small(folder.path, f"callbacks.stop_on_non_finite={stop}")) == FAILED
    words = {"true": "non-finite loss in epoch 1, step 0", "false": "the validation of epoch 1"}
    failed(folder, words[stop], "No checkpoint had been written")


@pytest.mark.parametrize("part", ["weight", "moment", "average"])
def test_a_stop_in_mid_epoch_saves_no_broken_state_over_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def ask(self: Interruption, trainer: Any) -> bool:
        if trainer.global_step != 3:
            return False
        module = trainer.lightning_module
        if part == "weight":
            next(module.model.parameters()).data.view(-1)[0] = math.nan
        elif part == "moment":
            next(iter(trainer.optimizers[0].state.values()))["exp_avg"].view(-1)[0] = math.inf
        else:
            average = trainer.callbacks[0]._average_model
            next(average.parameters()).data.view(-1)[0] = math.nan
        return True

    monkeypatch.setattr(Interruption, "_asked", ask)
    folder = RunFolder(tmp_path)
    words = ("data.batch_size=2", "callbacks.ema.enabled=true")
    assert fit(small(folder.path, *words)) == FAILED
    failed(folder, "weights became NaN or infinite by epoch 2, step 3", "last.ckpt (of epoch 1)")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan_validation", "the validation of epoch 1 is not finite"),
        pytest.param("nan_loss", "non-finite loss in epoch 1, step 0", marks=pytest.mark.full),
    ],
)
def test_the_ranks_of_a_group_stop_together(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    what: str,
    words: str,
) -> None:
    """Rank one alone sees it; rank zero, which writes the status, says so."""
    from attnseg.training import launch as launch_module

    monkeypatch.setattr(launch_module, "WORKER", "tests.faulty")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    fault = {"what": what, "rank": 1, "once": str(tmp_path / "fault")}
    monkeypatch.setenv("ATTNSEG_FAULT", json.dumps(fault))
    folder = RunFolder(tmp_path / "run")
    group = ("trainer=ddp_cpu", "trainer.accelerator=cpu", "data.batch_size=1")
    assert launch(configure(folder.path, *group, "logger=none")) == FAILED
    failed(folder, words, "cases ")
    assert capfd.readouterr().err.count(words) == 1


def test_broken_weights_are_refused_by_whoever_loads_them(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    content = read_checkpoint(finished.best)
    name = next(name for name in content["state_dict"] if name.startswith("model."))
    content["state_dict"][name].view(-1)[0] = math.nan
    save_checkpoint(content, folder.best)
    save_checkpoint(content, folder.last)
    with pytest.raises(CheckpointError, match=r"best\.ckpt: its weights are not finite"):
        load_checkpoints(str(folder.best))
    (tmp_path / "images").mkdir()
    for command in (
        ["evaluate", f"checkpoint={folder.path}"],
        ["export", f"checkpoint={folder.path}"],
        ["predict", f"checkpoint={folder.path}", f"images={tmp_path}", f"out={tmp_path / 'out'}"],
    ):
        assert main(command) == 2, command
        assert "its weights are not finite" in capsys.readouterr().err
    for word in ("resume", "fork", "warmstart"):
        config = small(tmp_path / word, f"{word}={folder.last}", "data.batch_size=2")
        with pytest.raises(CheckpointError, match="its weights are not finite"):
            fit(config)
