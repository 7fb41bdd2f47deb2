"""What a run tells its search, and when it is given up."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attnseg.config import ObjectiveConfig, OptunaSweepConfig, PrunerConfig, TrialConfig
from attnseg.training.callbacks.pruning import Pruned, Pruning
from attnseg.training.record import TrainingRecord

optuna = pytest.importorskip("optuna", reason="the extra [optuna] is missing")

METRIC = "val/dice_positive"


@pytest.fixture
def config(tmp_path: Path) -> OptunaSweepConfig:
    """A study with one finished trial, whose values are 0.8, and one that runs."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="s", storage=url, direction="maximize")
    finished = study.ask()
    for epoch in (1, 2, 3):
        finished.report(0.8, epoch)
    study.tell(finished, 0.8)
    study.ask()
    return OptunaSweepConfig(
        name="optuna",
        objectives=[ObjectiveConfig(metric=METRIC)],
        pruner=PrunerConfig(startup_trials=1, warmup_epochs=1),
        trial=TrialConfig(study="s", storage=url, number=1),
    )


def trainer(epoch: int) -> Any:
    return SimpleNamespace(current_epoch=epoch, is_global_zero=True, world_size=1)


def epoch(callback: Pruning, index: int, value: float) -> None:
    callback.on_train_epoch_start(trainer(index), None)
    module = SimpleNamespace(record=TrainingRecord({METRIC: value}))
    callback.on_train_epoch_end(trainer(index), module)


def begin(config: OptunaSweepConfig) -> Pruning:
    callback = Pruning(config)
    callback.on_fit_start(trainer(0), None)
    return callback


def reported(config: OptunaSweepConfig) -> dict[int, float]:
    assert config.trial is not None
    study = optuna.load_study(study_name="s", storage=config.trial.storage)
    return dict(study.trials[1].intermediate_values)


def test_a_poor_run_is_given_up_between_epochs(config: OptunaSweepConfig) -> None:
    callback = begin(config)
    epoch(callback, 0, 0.1)
    with pytest.raises(Pruned, match="after epoch 1 by val/dice_positive"):
        callback.on_train_epoch_start(trainer(1), None)


def test_a_good_run_goes_on(config: OptunaSweepConfig) -> None:
    callback = begin(config)
    for index in range(3):
        epoch(callback, index, 0.9)
    assert reported(config) == {1: 0.9, 2: 0.9, 3: 0.9}


def test_a_resumed_run_repeats_no_report_and_is_judged_again(config: OptunaSweepConfig) -> None:
    epoch(begin(config), 0, 0.1)
    resumed = begin(config)
    module = SimpleNamespace(record=TrainingRecord({METRIC: 0.2}))
    resumed.on_train_epoch_end(trainer(0), module)
    assert reported(config) == {1: 0.1}
    with pytest.raises(Pruned):
        resumed.on_train_epoch_start(trainer(1), None)


def test_an_undefined_value_is_not_reported(config: OptunaSweepConfig) -> None:
    callback = begin(config)
    epoch(callback, 0, math.nan)
    callback.on_train_epoch_end(trainer(0), SimpleNamespace(record=TrainingRecord({})))
    assert reported(config) == {}
    callback.on_train_epoch_start(trainer(1), None)
