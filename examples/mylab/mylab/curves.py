"""A curve of our own, for the weight of a loss term."""

from __future__ import annotations

from typing import Annotated

from attnseg.component import Doc, Ge


def sawtooth(
    t: float,
    *,
    teeth: Annotated[int, Ge(1), Doc("how often it falls within a phase")] = 3,
    start: Annotated[float, Ge(0), Doc("where every tooth begins")] = 0.5,
    end: Annotated[float, Ge(0), Doc("where it ends")] = 0.1,
) -> float:
    """From `start` down to `end`, again and again.

    Args:
        t: the share of the phase that has passed, in [0, 1].
        teeth, start, end: see above.
    """
    share = (t * teeth) % 1.0 if t < 1.0 else 1.0
    return start + (end - start) * share
