"""The learning rates' factor over a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Decay = Literal["constant", "cosine", "linear", "poly", "step"]


def learning_rate_factor(
    progress: float,
    total_epochs: int,
    *,
    kind: Decay,
    warmup_epochs: float,
    min_factor: float,
    power: float,
    milestones: Sequence[float],
    factor: float,
) -> float:
    """Factor on every learning rate after `progress` epochs.

    Linear warm-up from `min_factor` to 1 (over at most half of the run, so that a short trial
    trains too), then the decay of `kind`, down to `min_factor` at the end of the run.

    Args:
        progress: epochs done, fractions included (step / steps per epoch).
        total_epochs: length of the run.
        kind: shape of the decay.
        warmup_epochs: length of the warm-up.
        min_factor: where warm-up starts and decay ends.
        power: of `poly`.
        milestones: of `step`, shares of the run.
        factor: of `step`, at each milestone.

    Returns:
        A factor in [min_factor, 1].
    """
    progress = min(max(progress, 0.0), float(total_epochs))
    low, warmup = min_factor, min(warmup_epochs, 0.5 * total_epochs)
    if progress < warmup:
        return low + (1.0 - low) * progress / warmup
    left = 1.0 - (progress - warmup) / (total_epochs - warmup)
    match kind:
        case "constant":
            return 1.0
        case "step":
            passed = sum(progress >= share * total_epochs for share in milestones)
            return max(low, factor**passed)
        case "cosine":
            shape = 0.5 - 0.5 * math.cos(math.pi * left)
        case "linear":
            shape = left
        case "poly":
            shape = left**power
    return low + (1.0 - low) * shape
