"""What a run folder says about its run, read from its files alone; a broken file is a note."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from attnseg.common.errors import ConfigError
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import recorded_ids
from attnseg.runs.ledger import Row, inspect_ledger, read_ledger
from attnseg.runs.states import State, read_state


@dataclass(frozen=True)
class RunRecord:
    """One run as it lies on the disk.

    Attributes:
        path: its folder; it need not exist for a sweep's job that never began.
        name: readable.
        id: of the newest version; empty where it is not known.
        state: see `attnseg.runs.states`.
        reason: why it is in that state; may be empty.
        epoch: epochs done.
        total: epochs of its schedule; None where the configuration cannot say.
        best: `metric`, `value`, `epoch` of the monitored metric; empty before the first.
        config: config.yaml as it was read; empty where it cannot be.
        status: status.json, the same.
        sweep: name of the sweep it belongs to; empty without one.
        varied: the swept keys with this run's values.
        problems: what could not be read, a line each, with the file's name.
    """

    path: Path
    name: str
    id: str = ""
    state: State = "unknown"
    reason: str = ""
    epoch: int = 0
    total: int | None = None
    best: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    sweep: str = ""
    varied: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def folder(self) -> RunFolder:
        """Where its files are."""
        return RunFolder(self.path)

    @property
    def ids(self) -> list[str]:
        """Its ids of every version."""
        return list(recorded_ids(self.status).values())

    @property
    def seed(self) -> Any:
        """Of the run; None where it is not known."""
        return self.config.get("seed")

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end, so that its numbers are final."""
        return self.state == "finished"

    @cached_property
    def rows(self) -> list[Row]:
        """The ledger by epoch; empty where there is none that can be read."""
        return read_ledger(self.folder.ledger)


def looks_like_run(path: Path) -> bool:
    """Whether a folder holds a run: its status, or its configuration with a ledger."""
    folder = RunFolder(path)
    return folder.status.is_file() or (folder.config.is_file() and folder.ledger.is_file())


def read_record(path: Path) -> RunRecord:
    """Read config.yaml, status.json and the ledger's length; never raises for a broken file."""
    folder = RunFolder(path)
    status, status_problem = _read_mapping(folder.status)
    config, config_problem = _read_mapping(folder.config)
    ledger = inspect_ledger(folder.ledger)
    problems = tuple(p for p in (status_problem, config_problem, ledger.problem) if p)
    total = total_epochs(config)
    epoch = int(ledger.rows[-1]["epoch"]) if ledger.rows else _whole(status.get("epoch"))
    state, reason = read_state(folder, total, status)
    best = status.get("best")
    run = config.get("run")
    sweep = run.get("sweep") if isinstance(run, Mapping) else None
    sweep = sweep if isinstance(sweep, Mapping) else {}
    varied = sweep.get("varied")
    return RunRecord(
        path=path,
        name=str(status.get("name") or path.name),
        id=str(status.get("id") or ""),
        state=state,
        reason=reason,
        epoch=epoch,
        total=total,
        best=best if isinstance(best, Mapping) else {},
        config=config,
        status=status,
        sweep=str(sweep.get("name") or ""),
        varied=varied if isinstance(varied, Mapping) else {},
        problems=problems,
    )


def total_epochs(config: Mapping[str, Any]) -> int | None:
    """How many epochs a configuration's schedule has; None where it is not one."""
    from attnseg.build import build_schedule
    from attnseg.config import ScheduleConfig, validate

    section = config.get("schedule")
    try:
        return build_schedule(validate(section or {}, ScheduleConfig)).total_epochs
    except (ConfigError, TypeError, ValueError):
        return None


def _read_mapping(path: Path) -> tuple[dict[str, Any], str]:
    """A JSON or YAML mapping, and what is wrong with it: then it is empty."""
    import yaml

    try:
        text = path.read_text()
        # The C loader is ten times as fast, which shows in a list of some hundred runs.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        value = json.loads(text) if path.suffix == ".json" else yaml.load(text, loader)
    except FileNotFoundError:
        return {}, f"{path}: is missing"
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        return {}, f"{path}: cannot be read ({str(error).splitlines()[0]})"
    if not isinstance(value, dict):
        return {}, f"{path}: holds no keys but a {type(value).__name__}"
    return value, ""


def _whole(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
