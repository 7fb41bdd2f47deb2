"""Buffers around a validation of several processes, and sums that were saved rank by rank."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from attnseg.training.callbacks import distributed
from attnseg.training.callbacks.distributed import AnswerInTime, EvenValidation, own_part


class Wrapped(DistributedDataParallel):
    """As DDP wraps a network, without a group of processes."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.module = nn.BatchNorm2d(2)
        self.require_forward_param_sync = True


def test_buffers_are_sent_once_before_a_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(torch.distributed, "broadcast", lambda b, src: sent.append((id(b), src)))
    wrapped = Wrapped()
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(model=wrapped))
    EvenValidation().on_validation_start(trainer, None)  # type: ignore[arg-type]
    assert sent == [(id(buffer), 0) for buffer in wrapped.buffers()] and len(sent) == 3
    assert not wrapped.require_forward_param_sync
    EvenValidation().on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert wrapped.require_forward_param_sync
    assert len(sent) == 3


def test_one_process_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "broadcast", None)
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(model=nn.BatchNorm2d(2)))
    EvenValidation().on_validation_start(trainer, None)  # type: ignore[arg-type]
    EvenValidation().on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert not hasattr(trainer.strategy.model, "require_forward_param_sync")


def test_the_waits_are_bounded_when_training_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float] = []
    monkeypatch.setattr(distributed, "answer_within", bounds.append)
    AnswerInTime(7.0).on_train_start(None, None)  # type: ignore[arg-type]
    assert bounds == [7.0]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((0, 2), {"n": 1, "sums": {"a": 2.0}}),
        ((1, 2), {"n": 10, "sums": {"a": 20.0, "b": 5.0}}),
        ((0, 1), {"n": 11, "sums": {"a": 22.0, "b": 5.0}}),  # rank zero takes them all
        ((0, 3), {"n": 11, "sums": {"a": 22.0, "b": 5.0}}),
        ((2, 3), None),
    ],
)
def test_a_rank_goes_on_with_its_own_part(
    place: tuple[int, int], expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "place", lambda: place)
    parts = [{"n": 1, "sums": {"a": 2.0}}, {"n": 10, "sums": {"a": 20.0, "b": 5.0}}]
    assert own_part(parts) == expected
