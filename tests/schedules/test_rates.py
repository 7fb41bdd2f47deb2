"""Learning rates' factors: our shapes, and torch's schedulers as tables."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from attnseg.config.component import registry
from attnseg.schedules.rates import Constant, Cosine, Linear, Poly, Rates, Step
from attnseg.schedules.tabled import tabulated

OURS: tuple[Any, ...] = (Constant, Cosine, Linear, Poly, Step)


def test_ours_are_all_tried() -> None:
    assert list(registry("lr_schedule")) == [shape.name for shape in OURS]


@given(
    shape=st.sampled_from(OURS),
    warmup=st.floats(0, 20),
    total=st.integers(1, 200),
    share=st.floats(-0.5, 1.5),
)
def test_stays_between_the_floor_and_one(
    shape: Any, warmup: float, total: int, share: float
) -> None:
    assert 0.01 <= shape(total, warmup_epochs=warmup)(share * total) <= 1.0


@pytest.mark.parametrize(
    ("shape", "middle", "end"),
    [
        (Constant, 1.0, 1.0),
        (Cosine, 0.6, 0.2),
        (Linear, 0.6, 0.2),
        (Poly, 0.2 + 0.8 * 0.5**0.9, 0.2),
    ],
)
def test_shapes(shape: Any, middle: float, end: float) -> None:
    rates: Rates = shape(110, warmup_epochs=10, min_factor=0.2)
    assert list(map(rates, (0, 5, 10, 60, 110))) == pytest.approx([0.2, 0.6, 1.0, middle, end])


def test_steps_at_shares_of_the_run() -> None:
    make = partial(Step, 100, warmup_epochs=0, milestones=[0.5, 0.9])
    values = list(map(make(min_factor=0), (0, 49.9, 50, 89.9, 90, 100)))
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert make(min_factor=0.05)(100) == 0.05


def test_a_short_run_leaves_its_warm_up() -> None:
    rates = Cosine(2, warmup_epochs=5)
    assert (rates(1), rates(2)) == pytest.approx((1.0, 0.01))


def test_fractions_of_an_epoch_count() -> None:
    assert Linear(2, warmup_epochs=0, min_factor=0)(0.5) == pytest.approx(0.75)


SCHEDULERS: tuple[Any, ...] = (
    partial(lr_scheduler.OneCycleLR, max_lr=0.3, total_steps=24),
    partial(lr_scheduler.CyclicLR, base_lr=0.01, max_lr=0.1, step_size_up=3),
    partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=5),
    partial(lr_scheduler.LinearLR, total_iters=7),
    partial(lr_scheduler.MultiStepLR, milestones=[3, 9], gamma=0.5),
)


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("make", SCHEDULERS)
def test_a_table_is_what_the_scheduler_does_while_training(make: Any) -> None:
    """4 epochs of 6 batches, a step each; momentum where it is cycled."""
    table = tabulated(make, sgd, steps=24, batches=6, accumulated=1)
    optimizer = sgd([torch.nn.Parameter(torch.zeros(1))])
    scheduler = make(optimizer)
    (group,) = optimizer.param_groups
    for step in range(24):
        progress = step // 6 + step % 6 / 6
        assert table(progress) * 0.1 == pytest.approx(group["lr"])
        others = table.others_at(progress)
        assert others.get("momentum", 0.9) == pytest.approx(group["momentum"])
        optimizer.step()
        if step < 23:
            scheduler.step()
    cycled = make.func in (lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)
    assert set(table.others) == ({"momentum"} if cycled else set())


def test_batches_that_accumulate_are_one_step_and_an_epoch_is_one_where_it_says_so() -> None:
    make = partial(lr_scheduler.ExponentialLR, gamma=0.5)
    of_three = tabulated(make, sgd, steps=4, batches=5, accumulated=3)
    assert [of_three(i / 5) for i in range(10)] == [
        1,
        1,
        1,
        0.5,
        0.5,
        0.25,
        0.25,
        0.25,
        0.125,
        0.125,
    ]
    of_epochs = tabulated(make, sgd, steps=2, batches=5, accumulated=5)
    assert [of_epochs(i / 5) for i in (0, 4, 5, 9, 10, 25)] == [1, 1, 0.5, 0.5, 0.5, 0.5]
