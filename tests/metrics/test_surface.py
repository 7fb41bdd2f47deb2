"""HD95 against MONAI, and its rules for empty predictions and unknown spacing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance

from attnseg.metrics.surface import SurfaceMetrics, hausdorff95, outline

from . import tester


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI's own
def test_equals_monai() -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        example = tester.lifelike(number, (32, 40), n_lesions=1 + number % 3)
        predicted = np.roll(example.truth, rng.integers(-6, 7, 2), (0, 1))
        predicted |= rng.random(predicted.shape) > 0.995
        spacing = rng.uniform(0.5, 3, 2)
        wanted = compute_hausdorff_distance(
            torch.from_numpy(predicted)[None, None],
            torch.from_numpy(example.truth)[None, None],
            include_background=True,
            percentile=95,
            spacing=list(spacing),
        )
        got = hausdorff95(outline(predicted), outline(example.truth), spacing)
        assert got == pytest.approx(float(wanted), rel=1e-5)


def shifted(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 20:25, 20:25] = 1
    return mask.roll((rows, columns), (-2, -1)), mask


def test_a_shift_is_its_length_in_both_units() -> None:
    probability, mask = shifted(0, 3)
    metric = SurfaceMetrics()
    metric.update(probability, mask, torch.tensor([[1.0, 2.0]]))
    assert metric.compute()["hd95"] == pytest.approx(3 * 512 / 64)
    assert metric.compute()["hd95_mm"] == pytest.approx(6.0)


def test_an_empty_prediction_is_a_diagonal_away_and_counted() -> None:
    _, mask = shifted(0, 0)
    metric = SurfaceMetrics()
    metric.update(torch.zeros_like(mask), mask, torch.tensor([[1.0, 2.0]]))
    values = metric.compute()
    assert values["hd95"] == pytest.approx(512 * np.sqrt(2))
    assert values["hd95_mm"] == pytest.approx(np.hypot(64, 128))
    assert values["n_empty_predictions"] == 1


def test_empty_masks_and_unknown_spacing_are_left_out() -> None:
    probability, mask = shifted(0, 3)
    maps = torch.cat([probability] * 3), torch.cat([mask, mask, torch.zeros_like(mask)])
    metric = SurfaceMetrics()
    metric.update(*maps, torch.tensor([[1.0, 1.0], [torch.nan, torch.nan], [1.0, 1.0]]))
    assert metric.counts.tolist() == [2, 1]
    assert metric.last["hd95_mm"].isnan().tolist() == [False, True, True]


def test_the_threshold_is_what_is_measured_at() -> None:
    probability, mask = shifted(0, 0)
    halo = torch.maximum(0.9 * probability, 0.4 * probability.roll(10, -1))
    close, far = SurfaceMetrics(0.5), SurfaceMetrics(0.3)
    for metric in (close, far):
        metric.update(halo, mask, torch.ones(1, 2))
    assert close.compute()["hd95"] == 0.0
    assert far.compute()["hd95"] > 40
