"""A run in a logger's words: its configuration, and what it is one of."""

from __future__ import annotations

from typing import Any

from attnseg.config import TrainConfig
from attnseg.runs.identity import run_identity


def described(config: TrainConfig) -> dict[str, Any]:
    """What a logger is told of a run: the configuration, nested, and what is swept, flat."""
    sweep = config.run.sweep
    varied = {f"sweep/{key}": value for key, value in sweep.varied.items()} if sweep else {}
    return {**config.model_dump(mode="json"), "identity": run_identity(config), **varied}


def group_of(config: TrainConfig) -> str | None:
    """What the run is grouped under: `logger.group`, else its sweep."""
    sweep = config.run.sweep
    return config.logger.group or (sweep.name if sweep else None)
