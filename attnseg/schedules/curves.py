"""Curves: a loss weight over the epochs of a phase, as a function of the share that has passed."""

from __future__ import annotations

import math
from typing import Annotated

from attnseg.component import Doc, Ge, Gt, NonNegative

Start = Annotated[NonNegative, Doc("value at the phase's first epoch")]
End = Annotated[NonNegative, Doc("value at its last epoch")]
Unused = Annotated[
    NonNegative | None, Doc("not used; so that a sweep over `curve` alone is possible")
]
Positive = Annotated[float, Gt(0)]


class Constant:
    """The same at every epoch.

    Example:
        >>> Constant(start=0.5)(0.3)
        0.5
    """

    name = "constant"
    ends_where_it_starts = True

    def __init__(self, *, start: Start, end: Unused = None) -> None:
        self.start = start

    def __call__(self, t: float) -> float:
        """The value at `t` in [0, 1]."""
        return self.start


class Linear:
    """From start to end at an even pace.

    Example:
        >>> Linear(start=0.5, end=0.1)(1.0)
        0.1
    """

    name = "linear"

    def __init__(self, *, start: Start, end: End) -> None:
        self.start, self.end = start, end

    def __call__(self, t: float) -> float:
        """The value at `t` in [0, 1]: exactly `start` at 0 and `end` at 1."""
        return _between(self.start, self.end, t)


class Cosine:
    """From start to end, slowly at both.

    Example:
        >>> Cosine(start=1.0, end=0.0)(0.5)
        0.5
    """

    name = "cosine"

    def __init__(self, *, start: Start, end: End) -> None:
        self.start, self.end = start, end

    def __call__(self, t: float) -> float:
        """The value at `t` in [0, 1]: exactly `start` at 0 and `end` at 1."""
        return _between(self.start, self.end, 0.5 - 0.5 * math.cos(math.pi * t))


class Exponential:
    """From start to end by the same factor each epoch.

    Example:
        >>> Exponential(start=1.0, end=0.01)(0.5)
        0.1
    """

    name = "exponential"

    def __init__(
        self,
        *,
        start: Annotated[Positive, Doc("value at the phase's first epoch, above 0")],
        end: Annotated[Positive, Doc("value at its last epoch, above 0")],
    ) -> None:
        self.start, self.end = start, end

    def __call__(self, t: float) -> float:
        """The value at `t` in [0, 1]: exactly `start` at 0 and `end` at 1."""
        if self.start == self.end:  # else a constant would be rounded
            return self.start
        return float(self.start ** (1.0 - t) * self.end**t)


class Step:
    """Stairs of equal length, the first at start and the last at end.

    Example:
        >>> Step(start=0.9, end=0.3, steps=3)(0.5)
        0.6
    """

    name = "step"

    def __init__(
        self,
        *,
        start: Start,
        end: End,
        steps: Annotated[int, Ge(2), Doc("stairs, the first at `start`")] = 2,
    ) -> None:
        self.start, self.end, self.steps = start, end, steps

    def __call__(self, t: float) -> float:
        """The value at `t` in [0, 1]."""
        stair = min(math.floor(t * self.steps), self.steps - 1)
        return _between(self.start, self.end, stair / (self.steps - 1))


class OriginalDecay:
    """The first attempt's decay over the whole run: start x max(0.1, 1 - epoch / (0.5 x total)).

    Example:
        >>> OriginalDecay(start=0.5)(0.25)
        0.25
    """

    name = "original"
    ends_where_it_starts = True
    over_run = True

    def __init__(self, *, start: Start, end: Unused = None) -> None:
        self.start = start

    def __call__(self, t: float) -> float:
        """The value at `t`: of the run, since `over_run` is set, and not of the phase."""
        return self.start * max(0.1, 1.0 - 2.0 * t)


def _between(start: float, end: float, share: float) -> float:
    if start == end:  # else a constant would be rounded
        return start
    return start * (1.0 - share) + end * share
