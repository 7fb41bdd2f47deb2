"""Reading the monitored metric of an epoch, and telling the user what happens."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only

from attnseg.config import CallbacksConfig
from attnseg.errors import ConfigError


def monitored(pl_module: Any, key: str) -> float | None:
    """The monitored value of this epoch, or None where the epoch was not validated.

    Raises:
        ConfigError: the epoch was validated, and has no such metric.
    """
    values: dict[str, float] = pl_module.epoch_values
    if key in values:
        return values[key]
    validated = [name for name in values if name.startswith("val/")]
    if not validated:
        return None
    raise no_such_metric("monitor", key, validated)


def refuse_unknown(settings: CallbacksConfig, metrics: Iterable[str]) -> None:
    """Refuse a mistyped monitor before the first epoch; losses are known only after it.

    Args:
        settings: the callbacks' section.
        metrics: what a validation gives, without the `val/`.

    Raises:
        ConfigError: a monitor is none of them.
    """
    known = [f"val/{name}" for name in metrics]
    monitors = {"callbacks.checkpoint.monitor": settings.checkpoint.monitor}
    if settings.early_stopping.enabled:
        monitors["callbacks.early_stopping.monitor"] = settings.early_stopping.monitor
    for name, key in monitors.items():
        if key not in known and not key.startswith(("val/loss/", "train/")):
            raise no_such_metric(name, key, known)


def no_such_metric(name: str, key: str, known: Sequence[str]) -> ConfigError:
    """The error that names a mistyped monitor and what may have been meant."""
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {sorted(known)}"
    return ConfigError(f"{name}={key}: no such metric; {hint}")


def better(value: float, best: float, mode: str, min_delta: float = 0.0) -> bool:
    """Whether a value improves on the best by more than `min_delta`; NaN never does.

    A best that is NaN (a metric that was undefined at first) gives way to any number.
    """
    if math.isnan(value) or math.isnan(best):
        return not math.isnan(value)
    return value > best + min_delta if mode == "max" else value < best - min_delta


@rank_zero_only
def tell(text: str) -> None:
    """One line for the user, above a progress bar where there is one; on rank zero."""
    print(text, flush=True)
