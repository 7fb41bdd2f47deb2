from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnseg.losses.boundary import BoundaryLoss, signed_distance

from .helpers import (
    assert_half_precision_changes_nothing,
    distance_by_search,
    masks,
    some_probability,
)

LOSS = BoundaryLoss()


def disc(radius: float, row: float = 30.0, column: float = 26.0, side: int = 64) -> Tensor:
    """One case's mask (1, 1, side, side), centre and radius in px."""
    rows, columns = torch.arange(1.0 * side)[:, None], torch.arange(1.0 * side)
    return (torch.hypot(rows - row, columns - column) <= radius).float()[None, None]


@given(mask=masks)
@settings(max_examples=60, deadline=None)
def test_distances_are_those_of_an_exhaustive_search(mask: Tensor) -> None:
    expected = torch.from_numpy(distance_by_search(mask.double().numpy())).float()
    distance = signed_distance(mask)
    torch.testing.assert_close(distance, expected)
    assert distance.abs().max() < 1
    for case, lesion in zip(distance, mask > 0, strict=True):
        if lesion.any() and not lesion.all():
            assert torch.equal(case < 0, lesion)  # no pixel is left free
            assert torch.equal(case > 0, ~lesion)
        else:
            assert not case.any()


@given(mask=masks)
@settings(max_examples=40, deadline=None)
def test_laws(mask: Tensor) -> None:
    probability = some_probability(mask)
    value = LOSS(probability, mask)
    assert 0 <= value < 1
    value.backward()
    assert probability.grad is not None
    # linear in the probability: its gradient is the distance, as in the paper
    torch.testing.assert_close(probability.grad, signed_distance(mask) / mask.numel())

    for axis in (-1, -2, 0):
        torch.testing.assert_close(LOSS(probability.flip(axis), mask.flip(axis)), value)
    torch.testing.assert_close(LOSS(probability.mT, mask.mT), value)
    assert LOSS(mask, mask) == 0
    half_way = 0.5 * (probability + mask)
    torch.testing.assert_close(LOSS(half_way, mask), 0.5 * value)


@given(
    radius=st.floats(0.0, 12.0),
    row=st.floats(5.0, 58.0),
    column=st.floats(5.0, 58.0),
    surplus=st.integers(1, 12),
)
@settings(max_examples=40, deadline=None)
def test_it_falls_as_the_prediction_shrinks_towards_the_mask(
    radius: float, row: float, column: float, surplus: int
) -> None:
    mask = disc(max(radius, 1.0), row, column)
    values = [LOSS(disc(max(radius, 1.0) + k, row, column), mask) for k in range(surplus, -1, -1)]
    assert all(later < earlier for earlier, later in pairwise(values))
    assert values[-1] == 0


def test_a_false_positive_costs_its_distance_and_a_missed_pixel_its_depth() -> None:
    mask = disc(6)
    n, diagonal = 64 * 64, 64 * 2**0.5
    for column, px in ((33, 0.5), (34, 1.5), (52, 19.5)):  # columns 20 to 32 are inside
        wrong = mask.clone()
        wrong[0, 0, 30, column] = 1.0
        assert LOSS(wrong, mask).item() == pytest.approx(px / diagonal / n, rel=1e-4)
    wrong = mask.clone()
    wrong[0, 0, 30, 32] = 0.0
    assert LOSS(wrong, mask).item() == pytest.approx(0.5 / diagonal / n, rel=1e-4)


def test_it_is_the_same_at_every_resolution() -> None:
    coarse = LOSS(disc(12.5), disc(8.5))
    fine = LOSS(disc(25, 60.5, 52.5, 128), disc(17, 60.5, 52.5, 128))
    torch.testing.assert_close(coarse, fine, rtol=0.05, atol=0.0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_without_an_outline_adds_nothing(value: float) -> None:
    mask = torch.full((1, 1, 64, 64), value)
    probability = some_probability(mask)
    LOSS(probability, mask).backward()
    assert probability.grad is not None
    assert not probability.grad.any()
    together = LOSS(torch.cat([probability, disc(12)]), torch.cat([mask, disc(8)]))
    torch.testing.assert_close(together, LOSS(disc(12), disc(8)) / 2)  # a mean over all pixels


def test_half_precision_and_autocast_change_nothing() -> None:
    assert_half_precision_changes_nothing("boundary")
