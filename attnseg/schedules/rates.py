"""The learning rates' factor over a run."""

from __future__ import annotations

import math

from attnseg.config import LrScheduleConfig


def learning_rate_factor(config: LrScheduleConfig, progress: float, total_epochs: int) -> float:
    """Factor on every learning rate after `progress` epochs.

    Linear warm-up from `min_factor` to 1 (over at most half of the run, so that a short trial
    trains too), then the decay of `config.kind`, down to `min_factor` at the end of the run.

    Args:
        config: shape of the curve.
        progress: epochs done, fractions included (step / steps per epoch).
        total_epochs: length of the run.

    Returns:
        A factor in [min_factor, 1].
    """
    progress = min(max(progress, 0.0), float(total_epochs))
    low, warmup = config.min_factor, min(config.warmup_epochs, 0.5 * total_epochs)
    if progress < warmup:
        return low + (1.0 - low) * progress / warmup
    left = 1.0 - (progress - warmup) / (total_epochs - warmup)
    match config.kind:
        case "constant":
            return 1.0
        case "step":
            passed = sum(progress >= share * total_epochs for share in config.milestones)
            return max(low, config.factor**passed)
        case "cosine":
            shape = 0.5 - 0.5 * math.cos(math.pi * left)
        case "linear":
            shape = left
        case "poly":
            shape = left**config.power
    return low + (1.0 - low) * shape
