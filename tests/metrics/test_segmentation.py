"""Counts at every threshold, the choice of the best one, and undefined values."""

from __future__ import annotations

import pytest
import torch

from attnseg.metrics.segmentation import SegmentationMetrics

from . import tester


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
