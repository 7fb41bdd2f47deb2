"""Shapes of the learning rates over a run: a factor, as a pure function of the epochs done.

All of ours begin with a linear warm-up from `min_factor` to 1, over at most half of the run, so
that a short trial trains too. Anybody's function `(progress, total_epochs)` is used alike, and
torch's schedulers, of which a table is made (`attnseg.schedules.tabled`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from attnseg.component import Doc, Fraction, Gt, Le, NonNegative

Warmup = Annotated[NonNegative, Doc("length of the warm-up; at most half of the run")]
Floor = Annotated[Fraction, Doc("where warm-up starts and decay ends")]


class Rates:
    """What the shapes share: warm-up, then `shape` between 1 and the floor.

    Args:
        total_epochs: length of the run.
        warmup_epochs: length of the warm-up.
        min_factor: where warm-up starts and decay ends.

    Example:
        >>> class Root(Rates):
        ...     def shape(self, left):
        ...         return left**0.5
        >>> Root(10, warmup_epochs=0.0, min_factor=0.0)(7.5)
        0.5
    """

    def __init__(self, total_epochs: int, warmup_epochs: float, min_factor: float) -> None:
        self.total_epochs = total_epochs
        self.warmup = min(warmup_epochs, 0.5 * total_epochs)
        self.low = min_factor

    def __call__(self, progress: float) -> float:
        """The factor on every learning rate, in [min_factor, 1].

        Args:
            progress: epochs done, fractions included (step / steps per epoch).
        """
        progress = min(max(progress, 0.0), float(self.total_epochs))
        if progress < self.warmup:
            return self.low + (1.0 - self.low) * progress / self.warmup
        left = 1.0 - (progress - self.warmup) / (self.total_epochs - self.warmup)
        return self.decayed(progress, left)

    def decayed(self, progress: float, left: float) -> float:
        """The factor after the warm-up.

        Args:
            progress: epochs done.
            left: the share that is left of the time after the warm-up.
        """
        return self.low + (1.0 - self.low) * self.shape(left)

    def shape(self, left: float) -> float:
        """From 1, where all is left, to 0."""
        raise NotImplementedError


class Constant(Rates):
    """1 after the warm-up.

    Example:
        >>> Constant(total_epochs=10, warmup_epochs=2, min_factor=0.0)(1.0)
        0.5
    """

    name = "constant"

    def __init__(
        self, total_epochs: int, *, warmup_epochs: Warmup = 1.0, min_factor: Floor = 0.01
    ) -> None:
        super().__init__(total_epochs, warmup_epochs, min_factor)

    def decayed(self, progress: float, left: float) -> float:
        """1, whatever is left."""
        return 1.0


class Cosine(Rates):
    """Half a cosine.

    Example:
        >>> round(Cosine(total_epochs=10, warmup_epochs=0, min_factor=0.0)(5.0), 6)
        0.5
    """

    name = "cosine"

    def __init__(
        self, total_epochs: int, *, warmup_epochs: Warmup = 1.0, min_factor: Floor = 0.01
    ) -> None:
        super().__init__(total_epochs, warmup_epochs, min_factor)

    def shape(self, left: float) -> float:
        """From 1, where all is left, to 0."""
        return 0.5 - 0.5 * math.cos(math.pi * left)


class Linear(Rates):
    """At an even pace.

    Example:
        >>> Linear(total_epochs=10, warmup_epochs=0, min_factor=0.0)(2.5)
        0.75
    """

    name = "linear"

    def __init__(
        self, total_epochs: int, *, warmup_epochs: Warmup = 1.0, min_factor: Floor = 0.01
    ) -> None:
        super().__init__(total_epochs, warmup_epochs, min_factor)

    def shape(self, left: float) -> float:
        """From 1, where all is left, to 0."""
        return left


class Poly(Rates):
    """The share that is left to a power.

    Example:
        >>> Poly(total_epochs=10, warmup_epochs=0, min_factor=0.0, power=2)(5.0)
        0.25
    """

    name = "poly"

    def __init__(
        self,
        total_epochs: int,
        *,
        warmup_epochs: Warmup = 1.0,
        min_factor: Floor = 0.01,
        power: Annotated[float, Gt(0), Doc("of the share that is left")] = 0.9,
    ) -> None:
        super().__init__(total_epochs, warmup_epochs, min_factor)
        self.power = power

    def shape(self, left: float) -> float:
        """From 1, where all is left, to 0."""
        return float(left**self.power)


class Step(Rates):
    """Times `factor` at each milestone.

    Example:
        >>> steps = Step(total_epochs=10, warmup_epochs=0, milestones=[0.5])
        >>> steps(4.9), steps(5.0)
        (1.0, 0.1)
    """

    name = "step"

    def __init__(
        self,
        total_epochs: int,
        *,
        warmup_epochs: Warmup = 1.0,
        min_factor: Floor = 0.01,
        milestones: Annotated[Sequence[Fraction], Doc("shares of the run")] = (0.6, 0.85),
        factor: Annotated[float, Gt(0), Le(1), Doc("at each milestone")] = 0.1,
    ) -> None:
        super().__init__(total_epochs, warmup_epochs, min_factor)
        self.milestones, self.factor = milestones, factor

    def decayed(self, progress: float, left: float) -> float:
        """A power of the factor, no less than the floor."""
        passed = sum(progress >= share * self.total_epochs for share in self.milestones)
        return max(self.low, self.factor**passed)
