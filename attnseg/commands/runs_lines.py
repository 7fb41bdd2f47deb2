"""What `attnseg runs` prints of runs: a line each, as a table, JSON or CSV."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnseg.common.errors import ConfigError
from attnseg.common.files import write_csv

if TYPE_CHECKING:
    from attnseg.runs.records import RunRecord


def found_runs(root: str) -> list[RunRecord]:
    """Every run below the root.

    Raises:
        ConfigError: there is no such folder.
    """
    from dataclasses import replace

    from attnseg.runs.gather import find_runs, sweeps_of
    from attnseg.runs.records import read_record

    if not Path(root).is_dir():
        raise ConfigError(f"root={root}: no such folder")
    sweeps = sweeps_of(Path(root))
    runs = [read_record(path) for path in find_runs(Path(root))]
    return [replace(r, sweep=r.sweep or sweeps.get(r.path.resolve(), "")) for r in runs]


def line_of(run: RunRecord, *, size: int | None = None) -> dict[str, Any]:
    """What is listed of a run, in plain types."""
    from attnseg.runs.prune import folder_size, last_written

    written = last_written(run) if run.path.exists() else float("inf")
    return {
        "name": run.name,
        "id": run.id,
        "state": run.state,
        "epoch": run.epoch,
        "total_epochs": run.total,
        "best_metric": run.best.get("metric"),
        "best_value": run.best.get("value"),
        "best_epoch": run.best.get("epoch"),
        "size": folder_size(run.path) if size is None else size,
        "age": None if written == float("inf") else max(0.0, round(time.time() - written, 1)),
        "sweep": run.sweep,
        "folder": str(run.path),
    }


def size_words(size: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def age_words(seconds: float | None) -> str:
    """An age in its largest unit."""
    if seconds is None:
        return "–"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def best_words(line: dict[str, Any], *, alone: bool) -> str:
    """A run's best value, with the metric's name where it is not `alone`."""
    from attnseg.reports.style import number

    if line["best_value"] is None:
        return "–"
    name = "" if alone else str(line["best_metric"]).removeprefix("val/") + " "
    return f"{name}{number(line['best_value'])}"


def words_of(value: object) -> str:
    """A fact as text."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def write_lines(lines: Sequence[dict[str, Any]], kind: str, *, alone: bool = False) -> int:
    """Lines as JSON or CSV on standard output."""
    if kind == "json":
        print(json.dumps(lines[0] if alone else list(lines), indent=2))
        return 0
    if lines:
        write_csv(sys.stdout, list(lines[0]), lines)
    return 0


def print_rows(rows: Sequence[dict[str, str]], title: str) -> None:
    """Rows as a table in the terminal; states to look at are red."""
    from attnseg.commands.tables import print_table
    from attnseg.reports.compare.tables import Cell, Table
    from attnseg.runs.states import TROUBLED

    if not rows:
        print(title)
        return
    cells: list[tuple[Cell, ...]] = [
        tuple(Cell(text, kind="bad" if text in TROUBLED else "") for text in row.values())
        for row in rows
    ]
    print_table(Table(title, tuple(rows[0]), cells))
