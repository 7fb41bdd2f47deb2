"""Loss weights, frozen parts and rates' factors as pure functions of the epoch.

Nothing here counts: what holds at an epoch follows from the configuration and that epoch's
number alone, so a resumed run has nothing to restore. Epochs are 0-based (the 50 epochs that
people call 1-50 are 0..49); an epoch beyond the last is treated as the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from attnseg.common.errors import ConfigError
from attnseg.component import GroupName, WeightName

WEIGHT_NAMES: tuple[WeightName, ...] = get_args(WeightName)
GROUP_NAMES: tuple[GroupName, ...] = get_args(GroupName)

_UNNAMED: dict[str, float] = {"segmentation": 1.0, "attention": 0.0, "alignment": 0.0}

Curve = Callable[[float], float]
"""A weight by the share of its phase that has passed, in [0, 1]; of the run, where the callable
has a true `over_run`."""


@dataclass(frozen=True)
class PhasePlan:
    """What a phase is made of.

    Attributes:
        epochs: how many, before the schedule is stretched.
        weights: of the loss's terms: numbers, or curves; one that is not named is 0
            (segmentation, and further terms: 1).
        lr_factors: on the learning rate, by parameter group; one that is not named has 1.
        frozen: parameter groups that do not train.

    Example:
        >>> PhasePlan(50, weights={"attention": 0.5}, frozen=["backbone"]).epochs
        50
    """

    epochs: int
    weights: Mapping[str, float | Curve] = field(default_factory=dict)
    lr_factors: Mapping[GroupName, float] = field(default_factory=dict)
    frozen: Sequence[GroupName] = ()


@dataclass(frozen=True)
class Phase:
    """Epochs `start` to `stop` - 1 of a run.

    Example:
        >>> Phase("joint", index=1, start=50, stop=150).share(149)
        1.0
    """

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
        phases: in order, by name.
        total_epochs: with it each phase keeps its share of the run (by largest remainder, at
            least one epoch each) and the sum is exact.
        name: of the schedule.

    >>> from attnseg.schedules.curves import Linear
    >>> first = PhasePlan(50, weights={"attention": Linear(start=0.5, end=0.1)})
    >>> joint = PhasePlan(100, weights={"attention": Linear(start=0.1, end=0.05)})
    >>> schedule = Schedule({"attention": first, "joint": joint}, total_epochs=30)
    >>> schedule.spans()
    [('attention', 0, 10), ('joint', 10, 30)]
    >>> round(schedule.weights(0)["attention"], 3), round(schedule.weights(29)["attention"], 3)
    (0.5, 0.05)
    """

    def __init__(
        self,
        phases: Mapping[str, PhasePlan],
        *,
        total_epochs: int | None = None,
        name: str = "schedule",
    ) -> None:
        self.name = name
        self._plans = tuple(phases.values())
        lengths = [plan.epochs for plan in self._plans]
        if total_epochs is not None:
            lengths = _apportion(lengths, total_epochs)
        self.total_epochs = sum(lengths)
        self.phases = _consecutive(list(phases), lengths)

    def phase(self, epoch: int) -> Phase:
        """The phase that `epoch` belongs to."""
        epoch = self._inside(epoch)
        return next(phase for phase in self.phases if epoch < phase.stop)

    def weights(self, epoch: int, names: Sequence[str] = ()) -> dict[str, float]:
        """Loss weight of every group of terms at `epoch`, and of further terms.

        Args:
            epoch: 0-based.
            names: of further terms; one that the phase does not weigh has weight 1.
        """
        epoch = self._inside(epoch)
        phase = self.phase(epoch)
        curves = self._curves[phase.index]
        unnamed = {**_UNNAMED, **{name: 1.0 for name in names if name not in _UNNAMED}}
        wanted = [*unnamed, *(name for name in curves if name not in unnamed)]
        return {
            name: self._value(name, phase, epoch) if name in curves else unnamed[name]
            for name in wanted
        }

    def lr_factors(self, epoch: int) -> dict[GroupName, float]:
        """Factor on the learning rate of every parameter group at `epoch`."""
        factors = self._plans[self.phase(epoch).index].lr_factors
        return {name: factors.get(name, 1.0) for name in GROUP_NAMES}

    def frozen(self, epoch: int) -> frozenset[GroupName]:
        """Parameter groups that do not train at `epoch`."""
        return frozenset(self._plans[self.phase(epoch).index].frozen)

    def spans(self) -> list[tuple[str, int, int]]:
        """(phase name, first epoch, one past the last epoch) of every phase: what a plot shades."""
        return [(phase.name, phase.start, phase.stop) for phase in self.phases]

    def weight_curves(self) -> dict[str, NDArray[np.float64]]:
        """Every weight over the run, one value an epoch: what a plot draws."""
        further = sorted({name for curves in self._curves for name in curves} - set(WEIGHT_NAMES))
        table = [self.weights(epoch, further) for epoch in range(self.total_epochs)]
        return {name: np.array([row[name] for row in table]) for name in table[0]}

    @cached_property
    def _curves(self) -> list[dict[str, Curve]]:
        return [
            {name: w if callable(w) else _constant(w) for name, w in plan.weights.items()}
            for plan in self._plans
        ]

    def _inside(self, epoch: int) -> int:
        assert epoch >= 0, f"epochs count from 0, not {epoch}"
        return min(epoch, self.total_epochs - 1)

    def _value(self, name: str, phase: Phase, epoch: int) -> float:
        curve = self._curves[phase.index][name]
        over_run = getattr(curve, "over_run", False)
        share = epoch / (0.5 * self.total_epochs) / 2 if over_run else phase.share(epoch)
        value = float(curve(share))
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(
                f"schedule.phases.{phase.name}.weights.{name}: its curve gives {value} in epoch "
                f"{epoch + 1}; a loss weight is a number of 0 or more"
            )
        return value


def _constant(value: float) -> Curve:
    return lambda share: value


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
