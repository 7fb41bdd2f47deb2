"""How W&B is to read the metrics: against what, and whether more is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from attnseg.config.measures import higher_is_better


def define(run: Any, keys: Sequence[str], recorded: Mapping[str, Any] | None = None) -> None:
    """Tell a W&B run its axes and, for the given metrics, what to keep in the summary.

    Args:
        run: a `wandb.Run`.
        keys: columns of the ledger; only those with a good end need a definition of their own.
        recorded: what the run's status.json says of metrics that are not ours.
    """
    run.define_metric("epoch")
    run.define_metric("trainer/global_step")
    for pattern in ("train/*", "val/*", "weight/*", "lr/*"):
        run.define_metric(pattern, step_metric="epoch")
    run.define_metric("step/*", step_metric="trainer/global_step")
    for key in keys:
        if (end := _good_end(key, recorded)) is not None:
            run.define_metric(key, step_metric="epoch", summary=f"{end},last")


def summary_of(
    rows: Sequence[Mapping[str, float | str]], recorded: Mapping[str, Any] | None = None
) -> dict[str, dict[str, float]]:
    """Best and last of every metric that has a good end, over a whole ledger.

    W&B keeps such a summary itself, but begins it anew when a run is resumed.
    """
    found: dict[str, dict[str, float]] = {}
    for key in {key: None for row in rows for key in row}:
        end = _good_end(key, recorded)
        values = [float(row[key]) for row in rows if row.get(key) not in (None, "")]
        values = [value for value in values if not math.isnan(value)]
        if end is not None and values:
            best = max(values) if end == "max" else min(values)
            found[key] = {end: best, "last": values[-1]}
    return found


def _good_end(key: str, recorded: Mapping[str, Any] | None) -> str | None:
    """Of a ledger's column: `val/dice_positive` -> max; None: neither."""
    good = higher_is_better(key, recorded) if key.startswith(("train/", "val/")) else None
    return None if good is None else "max" if good else "min"
