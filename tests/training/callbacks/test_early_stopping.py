"""Phase-aware early stopping, driven without a training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from attnseg.build import build_schedule
from attnseg.common.errors import ConfigError
from attnseg.config import EarlyStoppingConfig, ScheduleConfig
from attnseg.training.callbacks.early_stopping import PhaseEarlyStopping
from attnseg.training.callbacks.monitoring import monitored
from attnseg.training.record import TrainingRecord

PHASES = {"first": {"epochs": 5}, "second": {"epochs": 20}}


def run(stopping: PhaseEarlyStopping, values: list[float], start: int = 0) -> int | None:
    """Feed one value an epoch; returns the epoch (0-based) at which it stops."""
    schedule = build_schedule(ScheduleConfig.model_validate({"name": "x", "phases": PHASES}))
    trainer = SimpleNamespace(current_epoch=0, should_stop=False)
    for offset, value in enumerate(values):
        trainer.current_epoch = start + offset
        module: Any = SimpleNamespace(
            record=TrainingRecord({"val/dice_positive": value}), schedule=schedule
        )
        stopping.on_train_epoch_end(trainer, module)  # type: ignore[arg-type]
        if trainer.should_stop:
            return start + offset
    return None


def stopper(**changes: Any) -> PhaseEarlyStopping:
    return PhaseEarlyStopping(EarlyStoppingConfig(patience=2, **changes))


def test_no_stop_before_the_last_phase() -> None:
    assert run(stopper(), [0.5] * 5) is None


def test_any_phase_may_stop_when_asked() -> None:
    assert run(stopper(last_phase_only=False), [0.5] * 5) == 2


def test_patience_is_counted_within_a_phase() -> None:
    # Epochs 3 and 4 (phase 1) bring nothing; the count must not carry into phase 2.
    assert run(stopper(), [0.5, 0.4, 0.4, 0.4, 0.4, 0.1, 0.2, 0.2, 0.2]) == 8


def test_a_smaller_best_of_the_new_phase_counts_as_progress() -> None:
    assert run(stopper(), [0.9] * 5 + [0.1, 0.2, 0.3, 0.4, 0.5]) is None


def test_min_delta_and_nan_are_no_improvement() -> None:
    values = [0.5] * 5 + [0.5, 0.505, float("nan")]
    assert run(stopper(min_delta=0.01), values) == 7


def test_state_goes_on_where_it_was() -> None:
    first, second = stopper(), stopper()
    run(first, [0.5] * 5 + [0.5, 0.4])
    second.load_state_dict(first.state_dict())
    assert run(second, [0.4], start=7) == 7


def test_an_epoch_without_validation_does_not_count() -> None:
    stopping = stopper()
    schedule = build_schedule(ScheduleConfig.model_validate({"name": "x", "phases": PHASES}))
    trainer = SimpleNamespace(current_epoch=10, should_stop=False)
    for _ in range(5):
        module: Any = SimpleNamespace(
            record=TrainingRecord({"train/loss/total": 1.0}), schedule=schedule
        )
        stopping.on_train_epoch_end(trainer, module)  # type: ignore[arg-type]
    assert stopping.waited == 0


def test_a_metric_that_is_not_there_is_named_with_its_neighbours() -> None:
    module = SimpleNamespace(record=TrainingRecord({"val/dice_positive": 0.1}))
    with pytest.raises(ConfigError, match="did you mean val/dice_positive"):
        monitored(module, "val/dice_positiv")
