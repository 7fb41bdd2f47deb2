"""Overlap of the predicted mask with the ground truth, at every threshold at once."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from attnseg.component import Doc, Measure
from attnseg.metrics.base import NEUTRAL_THRESHOLD, POSITIVE, CaseMetric, check_maps, wide
from attnseg.metrics.values import Prepared

THRESHOLDS = (
    *(0.001, 0.002, 0.005, 0.01),
    *(round(0.02 * step, 2) for step in range(1, 50)),
    *(0.99, 0.995, 0.998, 0.999),
)
"""Where the sweep looks: every 0.02, and finer at both ends, where an ill-calibrated net works."""

_TIE = 1e-9  # mean Dice closer than this is the same: sums over processes differ in the last bit


class SegmentationMetrics(CaseMetric):
    """Dice, IoU and false-positive pixels at a threshold, and the best threshold there is.

    - `dice_positive`, `iou_positive`: per case, averaged over the cases with a non-empty mask.
    - `dice_global`: of the pixels of all cases, empty masks included, pooled.
    - `false_positive_pixels_per_negative`: predicted pixels (at the evaluated size) of a case
      with an empty mask, on average.
    - `threshold`: the one that all these are at.
    - `best_threshold`, `dice_positive_at_best_threshold`: the threshold of `THRESHOLDS` (and
      `threshold`) with the highest `dice_positive`. Among equals the one nearest to 0.5, then
      the lower; 0.5 where no case is positive.

    `last` holds per case `n_mask_pixels`, `probability_max` and, where a threshold was given,
    `n_predicted_pixels`, `n_false_positive_pixels`, and `dice` and `iou` (NaN for an empty mask).
    `last_dice` holds that Dice at each of `thresholds`: (B, K).

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1.0
        >>> metric = SegmentationMetrics(threshold=0.5)
        >>> metric.update(0.8 * mask, mask)
        >>> metric.compute()["dice_positive"]
        1.0
    """

    name = "segmentation"
    measures = {
        "threshold": Measure("probability above which a pixel is predicted"),
        "best_threshold": Measure(
            "the threshold with the highest dice_positive on these very cases"
        ),
        "dice_positive": Measure(
            f"Dice of the mask at the threshold; {POSITIVE}", True, wanted=0.5
        ),
        "dice_positive_at_best_threshold": Measure(
            f"Dice at best_threshold, an optimistic bound; {POSITIVE}", True
        ),
        "dice_global": Measure("Dice at the threshold of the pixels of all cases, pooled", True),
        "iou_positive": Measure(f"intersection over union at the threshold; {POSITIVE}", True),
        "false_positive_pixels_per_negative": Measure(
            "predicted pixels at the evaluated size; mean over the cases with an empty mask", False
        ),
    }
    grid: Tensor
    last_dice: Tensor
    dice: Tensor
    iou: Tensor
    n_true: Tensor
    n_predicted: Tensor
    n_predicted_on_negatives: Tensor
    n_mask_pixels: Tensor
    n_positive: Tensor
    n_negative: Tensor

    def __init__(
        self,
        threshold: Annotated[
            float | None, Doc("where to measure; null: at the best threshold")
        ] = None,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.thresholds = sorted({*THRESHOLDS, *([] if threshold is None else [threshold])})
        grid = torch.tensor(self.thresholds, dtype=torch.float32)
        self.register_buffer("grid", grid, persistent=False)
        per_threshold = torch.zeros(len(self.thresholds), dtype=torch.int64)
        for name in ("dice", "iou"):
            self.add_state(name, per_threshold.double(), dist_reduce_fx="sum")
        for name in ("n_true", "n_predicted", "n_predicted_on_negatives"):
            self.add_state(name, per_threshold.clone(), dist_reduce_fx="sum")
        for name in ("n_mask_pixels", "n_positive", "n_negative"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probability: Tensor, mask: Tensor, prepared: Prepared | None = None) -> None:
        """Add a batch: `probability` in [0, 1] and `mask` 0/1, both (B, 1, H, W)."""
        check_maps(probability, mask)
        prepared = prepared or Prepared(probability, mask)
        predicted, true = prepared.probability.n_above(self.grid, prepared.truth)
        area = prepared.truth.area
        dice = torch.where(area > 0, wide(2 * true.T) / (predicted.T + area), torch.nan).T
        iou = torch.where(area > 0, wide(true.T) / (predicted.T + area - true.T), torch.nan).T
        positive = area > 0
        self.dice += dice[positive].sum(0).to(self.dice)
        self.iou += iou[positive].sum(0).to(self.iou)
        self.n_true += true.sum(0)
        self.n_predicted += predicted.sum(0)
        self.n_predicted_on_negatives += predicted[~positive].sum(0)
        self.n_mask_pixels += area.sum()
        self.n_positive += positive.sum()
        self.n_negative += (~positive).sum()
        self.last_dice = dice
        self.last = {"n_mask_pixels": area, "probability_max": prepared.probability.ends[1]}
        if self.threshold is not None:
            at = self.thresholds.index(self.threshold)
            self.last |= {
                "n_predicted_pixels": predicted[:, at],
                "n_false_positive_pixels": (predicted - true)[:, at],
                "dice": dice[:, at],
                "iou": iou[:, at],
            }

    def best_threshold(self) -> float:
        """The threshold with the highest mean per-case Dice on positives, of what is summed."""
        if not int(self.n_positive):
            return NEUTRAL_THRESHOLD
        dice = self.dice.cpu().double() / int(self.n_positive)
        top = dice >= dice.max() - _TIE
        tied = [value for value, best in zip(self.thresholds, top.tolist(), strict=True) if best]
        return min(tied, key=lambda value: abs(value - NEUTRAL_THRESHOLD))

    def compute(self) -> dict[str, float]:
        """The measures at the threshold; NaN where there is nothing to average over."""
        best = self.best_threshold()
        threshold = best if self.threshold is None else self.threshold
        at = self.thresholds.index(threshold)
        n_positive, n_negative = self.n_positive.cpu(), self.n_negative.cpu()
        mean_dice = self.dice.cpu().double() / n_positive
        pooled = (self.n_predicted + self.n_mask_pixels).cpu().double()
        false_positives = self.n_predicted_on_negatives.cpu().double() / n_negative
        return {
            "threshold": threshold,
            "best_threshold": best,
            "dice_positive": float(mean_dice[at]),
            "dice_positive_at_best_threshold": float(mean_dice[self.thresholds.index(best)]),
            "dice_global": float((2 * self.n_true.cpu() / pooled)[at]),
            "iou_positive": float((self.iou.cpu().double() / n_positive)[at]),
            "false_positive_pixels_per_negative": float(false_positives[at]),
        }
