"""Rates and frozen parts of a phase, without a training; test_steps.py has statistics."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from attnseg.training.callbacks.phase_switching import PhaseSwitching
from attnseg.training.record import TrainingRecord
from tests.conftest import configure

FIRST = "schedule.phases.attention_supervision"


@pytest.fixture
def switching(tmp_path: Path) -> PhaseSwitching:
    """Two epochs, a phase each; in the first the backbone is frozen and the attention faster."""
    words = (f"{FIRST}.lr_factors={{attention: 3.0, head: 0.5}}", f"{FIRST}.frozen=[backbone]")
    return PhaseSwitching(configure(tmp_path, *words, "optim.lr=0.01"))


class Model(nn.Module):
    """A batch norm in each of two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.head = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {n: list(getattr(self, n).parameters()) for n in ("backbone", "head")}


def trainer(epoch: int, model: Model, **more: Any) -> Any:
    groups = [{"params": p, "name": n, "lr": 1.0} for n, p in model.parameter_groups().items()]
    optimizer = SimpleNamespace(param_groups=groups)
    return SimpleNamespace(
        current_epoch=epoch, num_training_batches=4, optimizers=[optimizer], **more
    )


def test_a_rate_is_of_the_optimizer_the_group_the_phase_and_the_curve(
    switching: PhaseSwitching,
) -> None:
    model = Model()
    for batch in (0, 3):
        given = trainer(0, model)
        switching.on_train_batch_start(given, None, None, batch)
        curve = switching.rates(batch / 4)
        rates = {group["name"]: group["lr"] for group in given.optimizers[0].param_groups}
        assert rates == pytest.approx({"backbone": 0.01 * 0.1 * curve, "head": 0.01 * 0.5 * curve})
    curve = switching.rates(1.5)
    assert curve == pytest.approx(0.01 + 0.99 * 0.5)
    for epoch, factor in ((0, 3.0), (1, 1.0)):
        rates = switching.learning_rates(epoch, 1.5)
        assert rates["attention"] == pytest.approx(0.01 * 2.0 * factor * curve)
        assert rates["loss"] == pytest.approx(0.01 * curve)


def test_the_gradients_of_frozen_parts_are_dropped(switching: PhaseSwitching) -> None:
    model = Model()
    for epoch, kept in ((0, False), (1, True)):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        given = trainer(epoch, model)
        switching.on_before_optimizer_step(given, None, given.optimizers[0])
        assert all((p.grad is not None) is kept for p in model.backbone.parameters())
        assert all(p.grad is not None for p in model.head.parameters())


def test_an_epochs_weights_and_first_rates_go_into_the_ledger(switching: PhaseSwitching) -> None:
    loss = SimpleNamespace(names=("segmentation", "attention", "alignment"))
    module: Any = SimpleNamespace(record=TrainingRecord({"kept": 1.0}), loss=loss)
    switching.on_train_epoch_end(trainer(1, Model()), module)
    weights = {f"weight/{k}": v for k, v in switching.schedule.weights(1).items()}
    rates = switching.learning_rates(1, 1.0)
    rates = {f"lr/{name}": rates[name] for name in ("backbone", "head")}
    assert module.record.values == {"kept": 1.0, **weights, **rates}


def test_a_phase_is_announced_once_with_what_is_frozen(
    switching: PhaseSwitching, capsys: pytest.CaptureFixture[str]
) -> None:
    module: Any = SimpleNamespace(model=Model())
    for epoch in (0, 0, 1):
        switching.on_train_epoch_start(trainer(epoch, module.model), module)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "phase 'attention_supervision' (epochs 1-1), frozen: backbone",
        "phase 'joint' (epochs 2-2)",
    ]
