"""What a coarse grid costs: a perfect prediction, made there and brought back to full size."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from experiments.lidc_data.cases import Studied
from experiments.lidc_data.prior import padded

GRIDS = (384, 256, 192, 128, 64)
"""Sides of the coarse grid for a model of 512 px."""

SOFT_THRESHOLDS = (0.3, 0.4, 0.5)


def dice_after_resampling(studied: Studied, size: int) -> dict[str, float]:
    """Dice of the case's own mask after a round trip through each coarse grid.

    `hard_<grid>`: covered by half or more on the coarse grid, 0/1, then bilinear to full size
    and cut at 0.5: what training on downsampled 0/1 masks can reach.
    `soft_<grid>_<threshold>`: the covered share itself as probability, then bilinear and cut:
    what a prediction at that stride can reach if it learns shares.
    """
    truth = torch.from_numpy(padded(studied.mask, size))[None, None]
    found = {}
    for grid in GRIDS:
        side = round(grid * size / 512)
        share = F.interpolate(truth, (side, side), mode="area")
        back = {"hard": (share >= 0.5).float(), "soft": share}
        full = {
            name: F.interpolate(one, (size, size), mode="bilinear", align_corners=False)
            for name, one in back.items()
        }
        found[f"hard_{grid}"] = _dice(full["hard"] >= 0.5, truth > 0)
        for threshold in SOFT_THRESHOLDS:
            found[f"soft_{grid}_{threshold}"] = _dice(full["soft"] >= threshold, truth > 0)
    return found


def _dice(predicted: torch.Tensor, truth: torch.Tensor) -> float:
    total = float(predicted.sum() + truth.sum())
    return 2 * float((predicted & truth).sum()) / total if total else float(np.nan)
