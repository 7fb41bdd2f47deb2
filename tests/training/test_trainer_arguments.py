"""Arguments of Lightning's Trainer: passed on, or refused with a reason."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl

from attnseg.common.errors import ConfigError
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.config.lightning import REFUSED, trainer_options
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_ids
from attnseg.runs.ledger import read_ledger
from attnseg.runs.records import read_record
from attnseg.training.callbacks.interruption import StopRequest
from attnseg.training.fit import fit
from attnseg.training.trainer import build_trainer
from tests.conftest import configure
from tests.exactness import assert_equal_runs
from tests.foreign import package


def trainer(folder: Path, *words: str) -> pl.Trainer:
    return build_trainer(configure(folder, *words), RunFolder(folder), StopRequest())


def test_the_arguments_are_lightnings() -> None:
    lightnings = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    assert set(trainer_options()) == lightnings
    assert set(REFUSED) < lightnings
    assert not set(REFUSED) & set(TrainConfig.model_fields["trainer"].annotation.model_fields)  # type: ignore[union-attr]


def test_they_reach_the_trainer(tmp_path: Path) -> None:
    words = ("trainer.detect_anomaly=true", "trainer.profiler=simple", "trainer.min_epochs=2")
    made = trainer(tmp_path, *words, "trainer.fast_dev_run=2", "trainer.enable_model_summary=true")
    assert made._detect_anomaly and made.min_epochs == 2 and made.fast_dev_run == 2
    assert made.limit_train_batches == 2
    assert made.profiler.dirpath == tmp_path
    assert any(isinstance(c, pl.callbacks.ModelSummary) for c in made.callbacks)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_run_cannot_have_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_checked("train", [f"trainer.{name}=1"], TrainConfig)
    assert f"trainer.{name}: refused: {REFUSED[name]}" in str(error.value)


def test_all_mistakes_at_once_without_lightning() -> None:
    script = (
        "import sys; from attnseg.cli import main;"
        "main(['train', 'trainer.max_tme=1', 'trainer.max_steps=many', 'optim.lr=-1']);"
        "assert not {'torch', 'pytorch_lightning'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert "trainer.max_tme: no such key; did you mean 'trainer.max_time'?" in done.stderr
    assert "trainer.max_steps: input should be a valid integer" in done.stderr
    assert "optim.lr: input should be greater than 0" in done.stderr


def test_a_value_that_lightning_refuses_is_a_users_mistake(tmp_path: Path) -> None:
    for words in (("trainer.max_time=soon",), ("trainer.profiler=nosuch",)):
        with pytest.raises(ConfigError, match=r"^trainer: "):
            trainer(tmp_path, *words)


def test_what_changes_numbers_defines_a_run() -> None:
    def ids(*words: str) -> dict[str, str]:
        return run_ids(compose_checked("train", list(words), TrainConfig))

    same = ("trainer.max_steps=5", "trainer.max_time=00:01:00:00", "trainer.profiler=simple")
    assert ids(*same, "trainer.detect_anomaly=true", "trainer.fast_dev_run=false") == ids()
    assert ids("trainer.sync_batchnorm=true") != ids()
    assert ids("trainer.fast_dev_run=true") != ids()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    assert fit(configure(folder.path)) == 0
    return folder


def test_a_run_that_was_cut_short_by_its_steps_goes_on_to_the_bit(
    whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 steps an epoch: in the middle of the first, again at once, and at the first's end."""
    folder = RunFolder(tmp_path / "cut")
    for most, rows in ((1, 0), (1, 0), (2, 1)):
        assert fit(configure(folder.path, f"trainer.max_steps={most}")) == 0
        assert len(read_ledger(folder.ledger)) == rows
        record = read_record(folder.path)
        assert record.state == "partial" and f"trainer.max_steps={most}" in record.reason
        assert f"trainer.max_steps={most}: stopped in epoch" in capsys.readouterr().out
    assert fit(configure(folder.path)) == 0
    assert read_record(folder.path).state == "finished"
    assert_equal_runs(whole, folder)


SOON = """
from pytorch_lightning import Callback


class Soon(Callback):
    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, *rest):
        if trainer.global_step == self.step:
            trainer.should_stop = True
"""


@pytest.mark.parametrize("by", ["max_time", "callback"])
def test_the_clock_and_a_callback_stop_between_steps(
    by: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with package(tmp_path_factory.mktemp("lab"), SOON):
        word = {
            "max_time": ["trainer.max_time=00:00:00:00"],
            "callback": ["callbacks.soon._target_=mylab.parts.Soon", "callbacks.soon.step=1"],
        }
        assert fit(configure(tmp_path / "run", *word[by])) == 0
    folder = RunFolder(tmp_path / "run")
    assert folder.last.is_file() and not read_ledger(folder.ledger)
    assert read_record(folder.path).state == "partial"


def test_a_fast_run_leaves_its_profile(tmp_path: Path) -> None:
    words = ("trainer.fast_dev_run=true", "trainer.profiler=simple", "logger=csv")
    assert fit(configure(tmp_path, *words)) == 0
    assert len(read_ledger(RunFolder(tmp_path).ledger)) == 1
    assert "run_training_epoch" in (tmp_path / "fit-profile.txt").read_text()
