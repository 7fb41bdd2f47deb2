"""Loss weights, frozen parts and learning rates as pure functions of the epoch.

Nothing here counts: what holds at an epoch follows from the configuration and that epoch's
number alone, so a resumed run has nothing to restore. Epochs are 0-based (the 50 epochs that
people call 1-50 are 0..49); an epoch beyond the last is treated as the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from attnseg.config import (
    CurveConfig,
    GroupName,
    LrScheduleConfig,
    PhaseConfig,
    ScheduleConfig,
    WeightName,
)

WEIGHT_NAMES: tuple[WeightName, ...] = get_args(WeightName)
GROUP_NAMES: tuple[GroupName, ...] = get_args(GroupName)

_UNNAMED: dict[WeightName, float] = {"segmentation": 1.0, "attention": 0.0, "alignment": 0.0}


@dataclass(frozen=True)
class Phase:
    """Epochs `start` to `stop` - 1 of a run."""

    name: str
    index: int
    start: int
    stop: int

    @property
    def epochs(self) -> int:
        """Number of epochs, at least 1."""
        return self.stop - self.start

    def share(self, epoch: int) -> float:
        """How much of the phase has passed: 0 at its first epoch, 1 at its last (or only) one."""
        return (epoch - self.start) / (self.epochs - 1) if self.epochs > 1 else 1.0


class Schedule:
    """What a run does at each epoch.

    Args:
        config: phases in order; with `total_epochs`, each keeps its share of the run (by
            largest remainder, at least one epoch each) and the sum is exact.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self.name = config.name
        lengths = [phase.epochs for phase in config.phases.values()]
        if config.total_epochs is not None:
            lengths = _apportion(lengths, config.total_epochs)
        self.total_epochs = sum(lengths)
        self.phases = _consecutive(list(config.phases), lengths)
        self._configs: tuple[PhaseConfig, ...] = tuple(config.phases.values())

    def phase(self, epoch: int) -> Phase:
        """The phase that `epoch` belongs to."""
        epoch = self._inside(epoch)
        return next(phase for phase in self.phases if epoch < phase.stop)

    def weights(self, epoch: int) -> dict[WeightName, float]:
        """Loss weight of every group of terms at `epoch`."""
        epoch = self._inside(epoch)
        phase = self.phase(epoch)
        curves = self._configs[phase.index].weights
        return {
            name: self._value(curves[name], phase, epoch) if name in curves else default
            for name, default in _UNNAMED.items()
        }

    def lr_factors(self, epoch: int) -> dict[GroupName, float]:
        """Factor on the learning rate of every parameter group at `epoch`."""
        factors = self._configs[self.phase(epoch).index].lr_factors
        return {name: factors.get(name, 1.0) for name in GROUP_NAMES}

    def frozen(self, epoch: int) -> frozenset[GroupName]:
        """Parameter groups that do not train at `epoch`."""
        return frozenset(self._configs[self.phase(epoch).index].frozen)

    def spans(self) -> list[tuple[str, int, int]]:
        """(phase name, first epoch, one past the last epoch) of every phase: what a plot shades."""
        return [(phase.name, phase.start, phase.stop) for phase in self.phases]

    def weight_curves(self) -> dict[WeightName, NDArray[np.float64]]:
        """Every weight over the run, one value an epoch: what a plot draws."""
        table = [self.weights(epoch) for epoch in range(self.total_epochs)]
        return {name: np.array([row[name] for row in table]) for name in WEIGHT_NAMES}

    def _inside(self, epoch: int) -> int:
        assert epoch >= 0, f"epochs count from 0, not {epoch}"
        return min(epoch, self.total_epochs - 1)

    def _value(self, curve: CurveConfig, phase: Phase, epoch: int) -> float:
        if curve.curve == "original":  # runs over the whole run, whatever the phase
            return curve.start * max(0.1, 1.0 - epoch / (0.5 * self.total_epochs))
        return curve_value(curve, phase.share(epoch))


def curve_value(curve: CurveConfig, share: float) -> float:
    """A curve's value after `share` of its phase: exactly `start` at 0 and `end` at 1."""
    start, end = curve.start, curve.last
    if start == end:  # else a constant would be rounded
        return start
    if curve.curve == "exponential":
        return float(start ** (1.0 - share) * end**share)
    if curve.curve == "cosine":
        share = 0.5 - 0.5 * math.cos(math.pi * share)
    elif curve.curve == "step":
        share = min(math.floor(share * curve.steps), curve.steps - 1) / (curve.steps - 1)
    return start * (1.0 - share) + end * share


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


def _apportion(lengths: Sequence[int], total: int) -> list[int]:
    """Share `total` epochs out in proportion to `lengths`: largest remainder, at least 1 each."""
    assert total >= len(lengths)
    quotas = [total * length / sum(lengths) for length in lengths]
    shares = [max(1, math.floor(quota)) for quota in quotas]
    while sum(shares) != total:
        missing = sum(shares) < total
        candidates = [i for i, share in enumerate(shares) if missing or share > 1]
        owed = {i: quotas[i] - shares[i] for i in candidates}
        if missing:
            shares[max(candidates, key=owed.__getitem__)] += 1
        else:  # the minimum of 1 took too much
            shares[min(candidates, key=owed.__getitem__)] -= 1
    return shares


def _consecutive(names: Sequence[str], lengths: Sequence[int]) -> tuple[Phase, ...]:
    phases, start = [], 0
    for index, (name, length) in enumerate(zip(names, lengths, strict=True)):
        phases.append(Phase(name, index, start, start + length))
        start += length
    return tuple(phases)
