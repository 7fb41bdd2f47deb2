"""Reading the monitored metric of an epoch, and telling the user what happens."""

from __future__ import annotations

import difflib
import math
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only

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
    close = difflib.get_close_matches(key, validated, n=3, cutoff=0.3)
    raise ConfigError(
        f"monitor={key}: no such metric; "
        + (f"did you mean {' or '.join(close)}?" if close else f"there are {sorted(validated)}")
    )


def better(value: float, best: float, mode: str, min_delta: float = 0.0) -> bool:
    """Whether a value improves on the best by more than `min_delta`; NaN never does."""
    if math.isnan(value):
        return False
    return value > best + min_delta if mode == "max" else value < best - min_delta


@rank_zero_only
def tell(text: str) -> None:
    """One line for the user, above a progress bar where there is one; on rank zero."""
    print(text, flush=True)
