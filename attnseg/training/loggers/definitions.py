"""How W&B is to read the metrics: against what, and whether more is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Direction = Literal["min", "max"]

_LOWER = ("_distance", "_distance_mm", "hd95", "hd95_mm", "_per_negative", "n_empty_predictions")
_HIGHER = (
    "_overlap",
    "_corr",
    "pointing_game",
    "energy_inside",
    "soft_iou",
    "nss",
    "dice_positive",
    "dice_positive_at_best_threshold",
    "dice_global",
    "dice_original",
    "iou_positive",
    "froc_mean",
)
_HIGHER_PARTS = ("froc_sensitivity_at_", "lesion_sensitivity")


def direction(key: str) -> Direction | None:
    """Which end of a ledger's column is the good one: `val/dice_positive` -> max; None: neither."""
    family, _, name = key.partition("/")
    if family not in ("train", "val"):
        return None
    if name.startswith("loss/") or name.endswith(_LOWER):
        return "min"
    return "max" if name.endswith(_HIGHER) or name.startswith(_HIGHER_PARTS) else None


def define(run: Any, keys: Sequence[str]) -> None:
    """Tell a W&B run its axes and, for the given metrics, what to keep in the summary.

    Args:
        run: a `wandb.Run`.
        keys: columns of the ledger; only those with a good end need a definition of their own.
    """
    run.define_metric("epoch")
    run.define_metric("trainer/global_step")
    for pattern in ("train/*", "val/*", "weight/*", "lr/*"):
        run.define_metric(pattern, step_metric="epoch")
    run.define_metric("step/*", step_metric="trainer/global_step")
    for key in keys:
        if (end := direction(key)) is not None:
            run.define_metric(key, step_metric="epoch", summary=f"{end},last")


def summary_of(rows: Sequence[Mapping[str, float | str]]) -> dict[str, dict[str, float]]:
    """Best and last of every metric that has a good end, over a whole ledger.

    W&B keeps such a summary itself, but begins it anew when a run is resumed.
    """
    found: dict[str, dict[str, float]] = {}
    for key in {key: None for row in rows for key in row}:
        end = direction(key)
        values = [float(row[key]) for row in rows if row.get(key) not in (None, "")]
        values = [value for value in values if not math.isnan(value)]
        if end is not None and values:
            best = max(values) if end == "max" else min(values)
            found[key] = {end: best, "last": values[-1]}
    return found
