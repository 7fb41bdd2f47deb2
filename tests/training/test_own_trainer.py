"""A plain Lightning Trainer trains bit for bit what `attnseg train` trains, or is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.config import TrainConfig
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.runs.archive import KEY
from attnseg.runs.checkpoints import load_checkpoints, read_checkpoint, save_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import recorded_ids
from attnseg.training import own_trainer
from attnseg.training.fit import fit
from attnseg.training.module import AttnSegModule
from attnseg.training.trainer import trainer_arguments
from tests.conftest import TINY, configure

QUIET = {"logger": False, "enable_model_summary": False}
MUCH = (
    "callbacks.ema.enabled=true",
    "trainer.accumulate_grad_batches=2",
    "trainer.precision=bf16-true",
    "schedule=dwa",
)


def plain(
    config: TrainConfig, ckpt_path: Path | None = None, **changes: Any
) -> tuple[AttnSegModule, pl.Trainer]:
    """What a user writes."""
    arguments = {**trainer_arguments(config), "enable_checkpointing": False, **QUIET, **changes}
    module, trainer = AttnSegModule(config), pl.Trainer(**arguments)
    trainer.fit(module, datamodule=AttnSegDataModule(config, progress=False), ckpt_path=ckpt_path)
    return module, trainer


def same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """To the bit, NaN included: DWA's losses before there were any."""
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name].nan_to_num(-9.0), theirs[name].nan_to_num(-9.0)) for name in ours
    )


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnseg.training.fit._report", lambda folder: None)


def test_it_trains_the_same_weights_and_goes_on_with_those_of_a_run(tmp_path: Path) -> None:
    config = configure(tmp_path / "run", *MUCH)
    assert fit(configure(tmp_path / "run", *MUCH, "trainer.max_epochs=1")) == 0
    folder = RunFolder(tmp_path / "run")
    first = tmp_path / "first.ckpt"
    first.write_bytes(folder.last.read_bytes())
    assert fit(config) == 0
    wanted = read_checkpoint(folder.last)
    for start in (None, first):
        module, trainer = plain(config, start)
        assert trainer.current_epoch == 2
        assert same(module.state_dict(), wanted["state_dict"])
        trainer.save_checkpoint(tmp_path / "own.ckpt")
        record = read_checkpoint(tmp_path / "own.ckpt")[KEY]
        assert recorded_ids(record) == recorded_ids(wanted[KEY])
        assert record["data"] == wanted[KEY]["data"]
        assert record["threshold"] == wanted[KEY]["threshold"]


def test_its_own_checkpoints_hold_what_commands_need_and_can_be_gone_on_from(
    tmp_path: Path, finished: RunFolder
) -> None:
    """Saved by Lightning's callback: after an epoch, and in the middle of one."""
    config = configure(tmp_path / "run")
    keeping = {
        "enable_checkpointing": True,
        "callbacks": [
            ModelCheckpoint(tmp_path / "epochs", save_top_k=-1, filename="{epoch}"),
            ModelCheckpoint(
                tmp_path / "steps", save_top_k=-1, every_n_train_steps=1, filename="{step}"
            ),
        ],
    }
    module, _ = plain(config, **keeping)
    wanted = read_checkpoint(finished.last)["state_dict"]
    assert same(module.state_dict(), wanted)
    [loaded] = load_checkpoints(str(tmp_path / "epochs" / "epoch=1.ckpt"))
    assert loaded.trained
    assert loaded.code
    assert loaded.config.data_digest
    for saved in ("epochs/epoch=0.ckpt", "steps/step=1.ckpt"):
        module, _ = plain(config, tmp_path / saved)
        assert same(module.state_dict(), wanted), saved


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("precision", "bf16-mixed", "32-true"),
        ("accumulate_grad_batches", 2, "1"),
        ("gradient_clip_val", 0.1, "1.0"),
        ("max_epochs", 3, "2"),
        ("limit_train_batches", 1, "1.0"),
        ("num_sanity_val_steps", 2, "0"),
        ("use_distributed_sampler", True, "False"),
        ("deterministic", False, "True"),
        ("check_val_every_n_epoch", 2, "1"),
    ],
)
def test_a_trainer_that_contradicts_the_configuration_is_refused(
    argument: str, value: Any, said: str, tmp_path: Path
) -> None:
    config = configure(tmp_path / "run")
    with pytest.raises(ConfigError) as error:
        plain(config, **{argument: value})
    assert f"- {argument}={value}: trainer_arguments(config) says {said}" in str(error.value)


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    config = configure(tmp_path / "run")
    trainer = pl.Trainer(**{**trainer_arguments(config), **QUIET, "devices": 2})
    with pytest.raises(ConfigError, match=r"devices=2: trainer_arguments\(config\) says 1"):
        own_trainer.configured(AttnSegModule(config), trainer)


def test_what_would_be_another_experiment_is_refused(tmp_path: Path, finished: RunFolder) -> None:
    config = configure(tmp_path / "run")
    arguments = {**trainer_arguments(config), "enable_checkpointing": False, **QUIET}
    other = AttnSegDataModule(configure(tmp_path, "data.seed=3"), progress=False)
    with pytest.raises(ConfigError, match="the data module is of another configuration"):
        pl.Trainer(**arguments).fit(AttnSegModule(config), datamodule=other)
    batches = AttnSegDataModule(config, progress=False)
    with pytest.raises(ConfigError, match="give datamodule=AttnSegDataModule"):
        pl.Trainer(**arguments).fit(AttnSegModule(config), batches.train_dataloader())
    with pytest.raises(ConfigError, match=r"it is of another run[\s\S]*optim.lr"):
        plain(configure(tmp_path / "run", "optim.lr=0.5"), finished.last)
    with pytest.raises(ConfigError, match="fork= makes a checkpoint"):
        plain(configure(tmp_path / "run", f"fork={finished.path}"))


def test_a_warm_start_begins_with_the_same_weights(tmp_path: Path, finished: RunFolder) -> None:
    config = configure(tmp_path / "run", f"warmstart={finished.path}", "trainer.max_epochs=1")
    assert fit(config) == 0
    module, _ = plain(config)
    assert same(
        module.state_dict(), read_checkpoint(RunFolder(tmp_path / "run").last)["state_dict"]
    )


def test_a_module_comes_back_from_its_checkpoint(tmp_path: Path, finished: RunFolder) -> None:
    module = AttnSegModule.load_from_checkpoint(finished.last)
    content = read_checkpoint(finished.last)
    assert same(module.state_dict(), content["state_dict"])
    assert module.threshold == content[KEY]["threshold"]
    assert module.config == configure(finished.path).model_copy(
        update={"data_digest": content[KEY]["data"]["digest"]}
    )
    term = {"_target_": "antigravity_lab.Term", "group": "segmentation"}
    content[KEY]["config"]["loss"]["terms"] = {"mine": term}
    save_checkpoint(content, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match=r"loss\.terms\.mine.*trust=\[antigravity_lab\]"):
        AttnSegModule.load_from_checkpoint(tmp_path / "foreign.ckpt")


SCRIPT = """
import sys
import pytorch_lightning as pl
import torch
import attnseg

if __name__ == "__main__":
    place, *words = sys.argv[1:]
    config = attnseg.compose(words)
    arguments = attnseg.trainer_arguments(config) | {"logger": False, "enable_checkpointing": False}
    trainer, module = pl.Trainer(**arguments), attnseg.AttnSegModule(config)
    trainer.fit(module, datamodule=attnseg.AttnSegDataModule(config, progress=False))
    if trainer.is_global_zero:
        torch.save(module.state_dict(), place)
"""


@pytest.mark.full
def test_two_processes_of_lightnings_own_train_the_same(tmp_path: Path) -> None:
    words = [*TINY, "trainer=ddp_cpu", "data.batch_size=1", f"run.dir={tmp_path / 'run'}"]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    place = str(tmp_path / "weights.pt")
    subprocess.run([sys.executable, str(script), place, *words], check=True)
    subprocess.run([sys.executable, "-m", "attnseg", "train", *words], check=True)
    wanted = read_checkpoint(RunFolder(tmp_path / "run").last)
    assert wanted[KEY]["processes"] == 2
    assert same(torch.load(place), wanted["state_dict"])
