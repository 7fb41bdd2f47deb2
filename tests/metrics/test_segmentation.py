"""Counts at every threshold, the choice of the best one, and undefined values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attnseg.metrics.segmentation import THRESHOLDS, SegmentationMetrics, pixel_counts

from . import tester

ON_GRID = st.sampled_from([float(np.float32(t)) for t in THRESHOLDS])


@settings(max_examples=50, deadline=None)
@given(
    probability=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.just(1), st.integers(1, 6), st.integers(1, 6)),
        elements=st.one_of(st.floats(0, 1, width=32), ON_GRID),
    ),
    data=st.data(),
)
def test_counts_are_those_of_a_loop(probability: np.ndarray, data: st.DataObject) -> None:
    mask = data.draw(hnp.arrays(np.bool_, probability.shape))
    grid = torch.tensor(THRESHOLDS)
    p, g = torch.from_numpy(probability), torch.from_numpy(mask)
    predicted, true = pixel_counts(p, g, grid)
    for k, threshold in enumerate(grid):
        above = (p > threshold).flatten(1)
        assert predicted[:, k].tolist() == above.sum(1).tolist()
        assert true[:, k].tolist() == (above & g.flatten(1)).sum(1).tolist()


@settings(max_examples=60, deadline=None)
@given(
    values=hnp.arrays(
        np.float32,
        st.integers(1, 60),
        elements=st.one_of(st.floats(0, 1, width=32), ON_GRID, st.just(np.nan)),
    ),
    n_dark=st.integers(0, 150),
)
def test_dark_pixels_and_nan_change_no_count(values: np.ndarray, n_dark: int) -> None:
    """Mostly dark or mostly bright, with values at a threshold; NaN is above every one."""
    grid = torch.tensor(THRESHOLDS)
    dark = np.full(n_dark, THRESHOLDS[0], dtype=np.float32)
    p = torch.from_numpy(np.concatenate([dark, values]))[None, None, None]
    predicted, true = pixel_counts(p, torch.ones_like(p, dtype=torch.bool), grid)
    wanted = [int((~(p <= threshold)).sum()) for threshold in grid]
    assert predicted.tolist() == true.tolist() == [wanted]


def one_disc(inside: float, outside: float) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.from_numpy(tester.blob((16, 16), (8, 8), 3) > 0.5).float()[None, None]
    return torch.where(mask > 0, inside, outside), mask


@pytest.mark.parametrize(
    ("inside", "outside", "best"),
    [
        (0.9, 0.1, 0.5),  # anything between is perfect: the nearest to 0.5
        (0.9, 0.7, 0.7),  # 0.70 to 0.88 are perfect
        (0.3, 0.1, 0.28),  # 0.10 to 0.28 are perfect
        (0.0015, 0.0, 0.001),  # an ill-calibrated network: the fine end of the grid
        (0.9995, 0.9985, 0.999),
    ],
)
def test_best_threshold(inside: float, outside: float, best: float) -> None:
    metric = SegmentationMetrics()
    metric.update(*one_disc(inside, outside))
    assert metric.best_threshold() == best
    assert metric.compute()["threshold"] == best


def test_where_every_threshold_fails_the_choice_is_neutral() -> None:
    metric = SegmentationMetrics()
    metric.update(*one_disc(0.0, 0.0))
    assert metric.best_threshold() == 0.5
    assert metric.compute()["dice_positive"] == 0.0


def test_the_given_threshold_is_used_and_the_best_reported() -> None:
    probability, mask = one_disc(0.9, 0.1)
    metric = SegmentationMetrics(threshold=0.0501)
    metric.update(probability, mask)
    values = metric.compute()
    everything = 2 * float(mask.sum()) / (256 + float(mask.sum()))
    assert values["threshold"] == 0.0501
    assert values["dice_positive"] == pytest.approx(everything)
    assert values["dice_positive_at_best_threshold"] == pytest.approx(1.0)
    assert float(metric.last["dice"]) == pytest.approx(everything)


def test_a_pixel_at_the_threshold_is_not_predicted() -> None:
    metric = SegmentationMetrics(threshold=0.3)
    metric.update(torch.full((1, 1, 4, 4), 0.3), torch.zeros(1, 1, 4, 4))
    assert metric.compute()["false_positive_pixels_per_negative"] == 0


def test_only_negatives() -> None:
    metric = SegmentationMetrics()
    metric.update(torch.full((2, 1, 8, 8), 0.7), torch.zeros(2, 1, 8, 8))
    values = metric.compute()
    assert values["threshold"] == 0.5
    assert tester.is_nan(values["dice_positive"])
    assert tester.is_nan(values["iou_positive"])
    assert values["dice_global"] == 0.0
    assert values["false_positive_pixels_per_negative"] == 64


def test_global_dice_counts_false_positives_on_negatives_and_dice_positive_does_not() -> None:
    probability, mask = one_disc(0.9, 0.1)
    metric = SegmentationMetrics(threshold=0.5)
    metric.update(probability, mask)
    metric.update(probability, torch.zeros_like(mask))
    values = metric.compute()
    assert values["dice_positive"] == pytest.approx(1.0)
    assert values["dice_global"] == pytest.approx(2 / 3)
