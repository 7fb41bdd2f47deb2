"""A training run from end to end, small: its folder, its resume, its guards."""

from __future__ import annotations

import json
import math
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnseg.cli import main
from attnseg.common.errors import FAILED, INTERRUPTED, ConfigError, DataError
from attnseg.common.signals import STOP
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.config.measures import validation_names
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.imaging.images import write_image
from attnseg.nn.dual_pathway import DualPathwayModel
from attnseg.runs.checkpoints import load_checkpoints, read_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from attnseg.training.callbacks.checkpointing import Checkpointing
from attnseg.training.callbacks.interruption import Interruption
from attnseg.training.fit import fit
from attnseg.training.launch import launch
from attnseg.training.optimizers import AdamW
from tests.conftest import TINY, configure
from tests.exactness import assert_equal_runs


def test_the_run_folder_is_complete(finished: RunFolder) -> None:
    for path in (finished.config, finished.status, finished.ledger, finished.last, finished.best):
        assert path.is_file(), path
    assert (finished.report / "report.html").is_file()
    assert (finished.report / "curves.png").is_file()
    assert sorted((finished.report / "overlays").iterdir())
    status = finished.read_status()
    assert status["state"] == "finished"
    assert status["data"]["source"]["name"] == "phantom"
    assert status["best"]["metric"] == "val/dice_positive"


def test_the_ledger_has_everything_once_an_epoch(finished: RunFolder) -> None:
    rows = read_ledger(finished.ledger)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["phase"] for row in rows] == ["attention_supervision", "joint"]
    for column in (
        "weight/attention",
        "lr/backbone",
        "train/loss/total",
        "val/loss/segmentation/dice",
        "train/attention_gt_overlap",
        "val/attention_gt_distance",
        "val/attention_seg_corr",
        "val/pointing_game",
        "val/dice_original",
        "val/froc_sensitivity_at_1",
    ):
        assert math.isfinite(float(rows[-1][column])), column
    first = rows[0]
    assert float(first["lr/attention"]) == pytest.approx(20 * float(first["lr/backbone"]))


def test_the_checkpoint_holds_plain_types_and_what_a_command_needs(finished: RunFolder) -> None:
    [loaded] = load_checkpoints(str(finished.path))
    trained = AttnSegDataModule(loaded.config).train_patients
    assert trained
    assert all(patient in loaded.trained for patient in trained)
    assert 0.0 <= loaded.threshold <= 1.0
    filled_in = {"data_digest": loaded.config.data_digest}  # by the run
    assert loaded.config == configure(finished.path).model_copy(update=filled_in)


def test_a_finished_run_is_not_trained_again(finished: RunFolder) -> None:
    before = finished.last.stat().st_mtime_ns
    assert fit(configure(finished.path)) == 0
    assert finished.last.stat().st_mtime_ns == before


def test_another_run_is_not_put_into_its_folder(finished: RunFolder) -> None:
    with pytest.raises(ConfigError, match="holds another run"):
        fit(configure(finished.path, "optim.lr=5e-3"))


def test_a_resume_of_another_configuration_lists_the_differences(
    finished: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"optim\.lr: 0\.001 -> 0\.005"):
        fit(configure(tmp_path, "optim.lr=5e-3", f"resume={finished.last}"))


def test_the_same_run_twice_is_the_same_to_the_bit(finished: RunFolder, tmp_path: Path) -> None:
    assert fit(configure(tmp_path)) == 0
    assert_equal_runs(RunFolder(tmp_path), finished)


def test_a_non_finite_loss_stops_and_names_term_and_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from attnseg.losses.attention import AttentionLoss

    original = AttentionLoss.forward

    def poisoned(self: AttentionLoss, *arguments: Any) -> Any:
        value = original(self, *arguments)
        return value._replace(value=value.value * float("nan"))

    monkeypatch.setattr(AttentionLoss, "forward", poisoned)
    assert fit(configure(tmp_path)) == FAILED
    message = capsys.readouterr().err
    assert "attention=nan" in message
    assert "phantom-" in message
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"


def test_a_validation_gives_the_metrics_that_a_monitor_may_name(finished: RunFolder) -> None:
    given = {name for name in read_ledger(finished.ledger)[0] if name.startswith("val/")}
    known = {f"val/{name}" for name in validation_names(has_attention=True)}
    assert known == {name for name in given if not name.startswith("val/loss/")}


def test_a_wrong_monitor_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean val/dice_positive"):
        launch(configure(tmp_path, "callbacks.checkpoint.monitor=val/dice_positiv"))


def test_the_command_line_trains_and_sweeps(tmp_path: Path) -> None:
    arguments = [*TINY, f"run.root={tmp_path}", "schedule.total_epochs=2"]
    assert main(["train", "-m", *arguments, "attention=drr,supervised"]) == 0
    folders = [path for path in tmp_path.iterdir() if (path / "status.json").exists()]
    assert len(folders) == 2
    assert {RunFolder(path).read_status()["state"] for path in folders} == {"finished"}


def test_frozen_parts_do_not_move(tmp_path: Path) -> None:
    frozen = ("schedule=three_phase", "schedule.total_epochs=3", "trainer.max_epochs=1")
    config = configure(tmp_path, *frozen)
    assert config.schedule.phases[next(iter(config.schedule.phases))].frozen
    from attnseg.training.module import AttnSegModule

    before = AttnSegModule(config).model
    assert fit(config) == 0
    [after] = load_checkpoints(str(tmp_path / "checkpoints" / "last.ckpt"))
    part = config.schedule.phases[next(iter(config.schedule.phases))].frozen[0]
    names = {id(p): name for name, p in before.named_parameters()}
    groups = before.parameter_groups()
    for parameter in groups[part]:
        assert torch.equal(after.weights[names[id(parameter)]], parameter)
    moved = [
        not torch.equal(after.weights[names[id(p)]], p) for p in groups["attention"] if p.ndim > 1
    ]
    assert all(moved)


def test_checkpointing_state_is_plain() -> None:
    from attnseg.config import CheckpointConfig

    callback = Checkpointing(CheckpointConfig(), RunFolder(Path("x")))
    assert json.dumps(callback.state_dict())


def test_a_mistyped_monitor_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"early_stopping\.monitor=val/x: no such metric"):
        launch(configure(tmp_path / "run", "callbacks.early_stopping.monitor=val/x"))
    assert not (tmp_path / "run").exists()


def test_without_a_lesion_to_learn_from_nothing_is_trained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing can be learned"):
        fit(configure(tmp_path / "run", "data.negative_fraction=1.0"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "word", ["trainer.limit_val_batches=0.0", "trainer.check_val_every_n_epoch=3"]
)
def test_a_run_that_never_validates_says_so(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    assert fit(configure(folder.path, word, "trainer.limit_train_batches=1")) == 0
    told = capsys.readouterr().out
    assert f"note: {word}" in told and "nothing is measured" in told
    assert folder.last.exists() and not folder.best.exists()


@pytest.mark.parametrize("stage", ["train", "val"])
def test_a_share_of_less_than_a_batch_is_refused(stage: str, tmp_path: Path) -> None:
    key = f"limit_{stage}_batches"
    with pytest.raises(ConfigError, match=f"{key}"):
        fit(configure(tmp_path / "run", f"trainer.{key}=0.01"))


@pytest.mark.parametrize(
    ("patients", "pictures", "message"),
    [
        (("PAT1", "pat1", "c", "d"), (0, 1, 2, 3), "differ by case"),
        (("a", "b", "c", "d"), (0, 0, 2, 3), "same X-ray or DRR"),
    ],
)
def test_one_patient_under_two_names_is_not_trained_on(
    patients: tuple[str, ...], pictures: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[9:20, 9:20] = 255
    write_image(tmp_path / "mask.png", mask)
    lines = ["case,patient,xray,drr,mask,split"]
    for i, (patient, number) in enumerate(zip(patients, pictures, strict=True)):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64)).astype(np.uint8)
        write_image(tmp_path / f"{i}.png", pixels)
        lines.append(f"c{i},{patient},,{i}.png,mask.png,{'val' if i % 2 else 'train'}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    words = ["data=manifest", f"data.root={tmp_path}", "data.split.kind=fixed"]
    tiny = [word for word in TINY if not word.startswith(("data.n_cases", "data.split"))]
    config = compose_checked("train", [*tiny, *words, f"run.dir={tmp_path / 'run'}"], TrainConfig)
    with pytest.raises(DataError, match=message):
        fit(config)
    assert not (tmp_path / "run").exists()


def test_every_case_may_be_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit(configure(folder.path, "data.split.val_fraction=0")) == 0
    assert "no case is left to validate on" in capsys.readouterr().out
    assert folder.read_status()["data"]["splits"]["train"]["cases"] == 6
    assert folder.last.exists() and not folder.best.exists()
    weights = tmp_path / "all.safetensors"
    assert main(["export", f"checkpoint={folder.path}", f"output={weights}"]) == 0
    assert load_checkpoints(str(weights))[0].threshold == 0.5


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"run\.dir=.*cannot be written to"):
        fit(configure(tmp_path / "file" / "run"))


def test_a_run_that_max_epochs_cut_short_goes_on(tmp_path: Path) -> None:
    assert fit(configure(tmp_path, "trainer.max_epochs=1")) == 0
    assert RunFolder(tmp_path).read_status()["epoch"] == 1
    assert fit(configure(tmp_path)) == 0
    assert RunFolder(tmp_path).read_status()["epoch"] == 2


def test_a_run_that_goes_on_elsewhere_takes_its_past_along(
    finished: RunFolder, tmp_path: Path
) -> None:
    there = RunFolder(tmp_path / "there")
    assert fit(configure(there.path, f"resume={finished.path}")) == 0
    assert [row["epoch"] for row in read_ledger(there.ledger)] == ["1", "2"]
    assert there.best.read_bytes() == finished.best.read_bytes()


def test_two_processes_do_not_train_one_run(tmp_path: Path) -> None:
    tmp_path.joinpath("run").mkdir()
    with (
        RunFolder(tmp_path / "run").held(),
        pytest.raises(ConfigError, match="another process is training"),
    ):
        fit(configure(tmp_path / "run"))


@pytest.mark.parametrize("number", [*STOP, signal.SIGUSR1])
def test_a_signal_saves_mid_epoch_and_its_handler_goes_back(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    original = Interruption.on_train_batch_end

    def strike(self: Interruption, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 1:
            os.kill(os.getpid(), number)
        original(self, trainer, *arguments)

    monkeypatch.setattr(Interruption, "on_train_batch_end", strike)
    assert fit(configure(tmp_path)) == INTERRUPTED
    assert RunFolder(tmp_path).read_status()["reason"].endswith("step 1; saved")
    assert read_checkpoint(RunFolder(tmp_path).last)["global_step"] == 1
    assert signal.getsignal(number) is before


def test_of_a_sweep_a_failed_run_stops_no_other_and_an_interrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.training import fit as module

    codes = {1: 0, 2: FAILED, 3: 0, 4: INTERRUPTED, 5: 0}
    seen: list[int] = []

    def fake(config: Any) -> int:
        seen.append(config.seed)
        if config.seed == 2:
            raise RuntimeError("out of luck")
        return codes[config.seed]

    monkeypatch.setattr(module, "fit", fake)
    words = [*TINY, f"run.root={tmp_path}"]
    assert main(["train", "seed=1,2,3", "-m", *words]) == FAILED
    assert seen == [1, 2, 3]
    seen.clear()
    assert main(["train", "-m", "seed=3,4,5", *words]) == INTERRUPTED
    assert seen == [3, 4]


def trained(folder: Path, *words: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Weights after three steps of plain gradient descent's size, and the epoch's losses."""
    words = ("trainer.max_epochs=1", "trainer.limit_train_batches=3", "optim.lr=1e-5", *words)
    assert fit(configure(folder, *words)) == 0
    row = read_ledger(RunFolder(folder).ledger)[0]
    losses = {k: float(v) for k, v in row.items() if k.startswith(("train/loss", "val/loss")) and v}
    return load_checkpoints(str(RunFolder(folder).last))[0].weights, losses


@pytest.mark.parametrize(
    ("option", "tolerance"),
    [
        ("trainer.channels_last=true", 1e-4),
        ("optim.fused=true", 1e-4),
        ("trainer.precision=bf16-mixed", 2e-2),
    ],
)
def test_a_cheaper_step_trains_the_same(option: str, tolerance: float, tmp_path: Path) -> None:
    """It takes effect, and what it changes is rounding."""
    seen: dict[str, Any] = {}
    forward, step = DualPathwayModel.forward, torch.optim.AdamW.step

    def watched(model: Any, xray: torch.Tensor, drr: torch.Tensor) -> Any:
        kernel = model.xray_encoder.levels[1][0][0].weight
        seen["channels_last"] = kernel.is_contiguous(memory_format=torch.channels_last)
        seen["bf16"] = torch.is_autocast_enabled("cpu")
        return forward(model, xray, drr)

    def stepped(optimizer: Any, *given: Any, **named: Any) -> Any:
        seen["fused"] = bool(optimizer.defaults["fused"])
        return step(optimizer, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        weights, losses = trained(tmp_path / "plain")
        patch.setattr(DualPathwayModel, "forward", watched)
        patch.setattr(AdamW, "step", stepped)
        others, other_losses = trained(tmp_path / "cheap", option)
    assert seen == {
        "channels_last": "channels_last" in option,
        "bf16": "bf16" in option,
        "fused": "fused" in option,
    }
    assert other_losses == pytest.approx(losses, rel=tolerance, abs=tolerance)
    assert all(torch.allclose(others[k], v, atol=1e-4) for k, v in weights.items())
