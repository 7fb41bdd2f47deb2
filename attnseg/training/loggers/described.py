"""A run in a logger's words: its configuration, and what it is one of."""

from __future__ import annotations

from typing import Any

from attnseg.common.credentials import concealed
from attnseg.config import TrainConfig
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_identity
from attnseg.runs.recorded import recorded

_MADE_WITH = ("code", "processes", "threads", "cpu", "gpu")


def described(config: TrainConfig, folder: RunFolder) -> dict[str, Any]:
    """What a logger is told of a run: the configuration, nested, what is swept, flat, and what it
    is made with (of its code not every file)."""
    status = folder.read_status()
    made_with = {key: status[key] for key in _MADE_WITH if key in status}
    if code := made_with.get("code"):
        made_with["code"] = {key: value for key, value in code.items() if key != "files"}
    sweep = config.run.sweep
    varied = {f"sweep/{key}": value for key, value in sweep.varied.items()} if sweep else {}
    more = {"identity": run_identity(config), **made_with, **concealed(varied)}
    return {**recorded(config), **more}


def group_of(config: TrainConfig) -> str | None:
    """What the run is grouped under: `logger.group`, else its sweep and no other of that name."""
    sweep = config.run.sweep
    return config.logger.group or (f"{sweep.name[:119]}-{sweep.id}" if sweep else None)
