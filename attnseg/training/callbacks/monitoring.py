"""Reading the monitored metric of an epoch."""

from __future__ import annotations

import math
from typing import Any

from attnseg.config.measures import no_such_metric
from attnseg.training.record import record_of


def monitored(pl_module: Any, key: str) -> float | None:
    """The monitored value of this epoch, or None where the epoch was not validated.

    Raises:
        ConfigError: the epoch was validated, and has no such metric.
    """
    values: dict[str, float] = record_of(pl_module).values
    if key in values:
        return values[key]
    validated = [name for name in values if name.startswith("val/")]
    if not validated:
        return None
    raise no_such_metric("monitor", key, validated)


def better(value: float, best: float, mode: str, min_delta: float = 0.0) -> bool:
    """Whether a value improves on the best by more than `min_delta`; NaN never does.

    A best that is NaN (a metric that was undefined at first) gives way to any number.
    """
    if math.isnan(value) or math.isnan(best):
        return not math.isnan(value)
    return value > best + min_delta if mode == "max" else value < best - min_delta
