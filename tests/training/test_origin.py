"""Forks and warm starts: runs that begin from another one's checkpoint."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.runs.checkpoints import export_safetensors, load_checkpoints, read_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_identity
from attnseg.runs.ledger import read_ledger
from attnseg.training.fit import fit
from attnseg.training.module import AttnSegModule
from attnseg.training.origin import warm_start, with_origin
from tests.conftest import configure


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> RunFolder:
    """Two of three epochs, then cut short."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "parent")
    assert fit(configure(folder.path, "schedule.total_epochs=3", "trainer.max_epochs=2")) == 0
    return folder


def test_a_fork_goes_on_under_the_changed_configuration_and_records_it(
    parent: RunFolder, tmp_path: Path
) -> None:
    child = RunFolder(tmp_path)
    changed = ("schedule.total_epochs=4", "optim.lr=5e-3", f"fork={parent.path}")
    assert fit(configure(child.path, *changed)) == 0
    rows, before = read_ledger(child.ledger), read_ledger(parent.ledger)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    shared = before[0].keys()
    assert [{k: row[k] for k in shared} for row in rows[:2]] == before
    assert float(rows[2]["lr/head"]) > float(before[1]["lr/head"])
    record = child.read_status()["fork"]
    assert record["id"] == parent.read_status()["id"]
    assert (record["epoch"], record["step"]) == (2, 4)
    assert "optim.lr: 0.001 -> 0.005" in record["changed"]
    assert "schedule.total_epochs: 3 -> 4" in record["changed"]
    assert child.read_status()["id"] != record["id"]


def test_an_unchanged_fork_is_the_run_itself_to_the_bit(parent: RunFolder, tmp_path: Path) -> None:
    child, whole = RunFolder(tmp_path / "child"), RunFolder(tmp_path / "whole")
    assert fit(configure(child.path, "schedule.total_epochs=3", f"fork={parent.last}")) == 0
    assert fit(configure(whole.path, "schedule.total_epochs=3")) == 0
    weights = [load_checkpoints(str(folder.last))[0].weights for folder in (child, whole)]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    assert child.ledger.read_bytes() == whole.ledger.read_bytes()
    assert child.best.is_file()


def test_a_fork_is_resumed_where_it_is_and_not_forked_again(
    parent: RunFolder, tmp_path: Path
) -> None:
    """Even when the parent has gone: the folder remembers what it began from."""
    copy = tmp_path / "parent"
    shutil.copytree(parent.path, copy)
    words = ("schedule.total_epochs=4", f"fork={copy}")
    child = RunFolder(tmp_path / "child")
    assert fit(configure(child.path, *words, "trainer.max_epochs=3")) == 0
    shutil.rmtree(copy)
    assert fit(configure(child.path, *words)) == 0
    assert [row["epoch"] for row in read_ledger(child.ledger)] == ["1", "2", "3", "4"]
    assert child.read_status()["fork"]["epoch"] == 2


def test_what_weights_and_optimizer_are_made_for_cannot_change(
    parent: RunFolder, tmp_path: Path
) -> None:
    """Told before a folder is made and a case is decoded."""
    folder, cache = tmp_path / "refused", tmp_path / "cache"
    words = ("attention=drr", "model.decoder_channels=16", f"fork={parent.path}")
    with pytest.raises(ConfigError, match=r"(?s)model\.decoder_channels: 8 -> 16.*warmstart="):
        fit(configure(folder, *words, f"data.cache_dir={cache}"))
    with pytest.raises(ConfigError, match="nothing is left to train"):
        fit(configure(folder, f"fork={parent.path}", "schedule.total_epochs=2"))
    with pytest.raises(CheckpointError, match=r"fork=/none: no such file"):
        fit(configure(folder, "fork=/none"))
    with pytest.raises(ConfigError, match="give one of them"):
        fit(configure(folder, f"fork={parent.path}", f"warmstart={parent.path}"))
    with pytest.raises(ConfigError, match="with fork or warmstart: give one of them"):
        fit(configure(folder, f"fork={parent.path}", f"resume={parent.path}"))
    assert not folder.exists()
    assert not cache.exists()


def test_a_fork_under_another_monitor_finds_a_best_of_its_own(
    parent: RunFolder, tmp_path: Path
) -> None:
    child = RunFolder(tmp_path)
    monitor = "callbacks.checkpoint.monitor=val/attention_gt_overlap"
    words = ("schedule.total_epochs=3", monitor, f"fork={parent.path}")
    assert fit(configure(child.path, *words)) == 0
    assert child.read_status()["best"]["metric"] == "val/attention_gt_overlap"
    assert read_checkpoint(child.best)["epoch"] == 2


@pytest.mark.parametrize("kind", ["folder", "safetensors"])
def test_a_warm_start_takes_the_weights_alone(
    kind: str, parent: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pytorch_lightning as pl

    source = str(parent.path)
    if kind == "safetensors":
        source = str(tmp_path / "weights.safetensors")
        export_safetensors([load_checkpoints(str(parent.path))[0]], Path(source))
    seen: dict[str, torch.Tensor] = {}

    def stop(trainer: pl.Trainer, module: pl.LightningModule, **_: object) -> None:
        seen.update({k: v.clone() for k, v in module.model.state_dict().items()})  # type: ignore[operator, union-attr]
        trainer.should_stop = True

    monkeypatch.setattr(pl.Trainer, "fit", stop)
    folder = RunFolder(tmp_path / "run")
    assert fit(configure(folder.path, f"warmstart={source}")) == 0
    expected = load_checkpoints(str(parent.path))[0].weights
    assert all(torch.equal(seen[name], value) for name, value in expected.items())
    record = folder.read_status()["warmstart"]
    assert record["taken"] == record["of"] == len(expected)
    assert record["id"] == parent.read_status()["id"]


def test_a_warm_start_from_an_ensemble_takes_its_first_model(
    parent: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_checkpoints(str(parent.path))[0]
    zeros = {name: torch.zeros_like(value) for name, value in first.weights.items()}
    packed = tmp_path / "two.safetensors"
    export_safetensors([first, replace(first, weights=zeros)], packed)
    config = configure(tmp_path, f"warmstart={packed}")
    module = AttnSegModule(config)
    record = warm_start(config, module.model)
    assert (record["members"], record["taken"]) == (2, len(first.weights))
    state = module.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in first.weights.items())
    assert fit(configure(tmp_path / "run", f"warmstart={packed}", "trainer.max_epochs=1")) == 0
    assert "(the first of its 2 models)" in capsys.readouterr().out


def test_a_warm_start_says_what_starts_afresh(
    parent: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("attention.hidden_channels=16", f"warmstart={parent.path}", "trainer.max_epochs=1")
    assert fit(configure(tmp_path, *words)) == 0
    assert "; fresh: attention." in capsys.readouterr().out
    assert read_ledger(RunFolder(tmp_path).ledger)[0]["epoch"] == "1"


def test_a_warm_start_from_another_kind_of_model_is_refused(
    parent: RunFolder, tmp_path: Path
) -> None:
    words = ["data.n_cases=6", "data.size=64", "model=unet", "attention=none"]
    words += [f"run.dir={tmp_path}", f"warmstart={parent.path}", "trainer=cpu"]
    config = compose_checked("train", words, TrainConfig)
    with pytest.raises(CheckpointError, match=r"none of its .* tensors fits this model \(monai"):
        fit(config)


def test_what_a_run_began_from_is_part_of_its_identity(parent: RunFolder, tmp_path: Path) -> None:
    plain = configure(tmp_path)
    forked = with_origin(configure(tmp_path, f"fork={parent.last}"))
    warm = with_origin(configure(tmp_path, f"warmstart={parent.last}"))
    elsewhere = tmp_path / "moved.ckpt"
    shutil.copy(parent.last, elsewhere)
    moved = with_origin(configure(tmp_path, f"fork={elsewhere}"))
    assert len({run_identity(config) for config in (plain, forked, warm)}) == 3
    assert run_identity(moved) == run_identity(forked)
