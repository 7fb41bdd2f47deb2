"""What of a folder of runs can go, and its removal; nothing that is no run is ever touched."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from attnseg.common.errors import ConfigError
from attnseg.config.measures import higher_is_better, recorded_in
from attnseg.runs.hold import STALE_S, alone
from attnseg.runs.records import RunRecord

What = Literal["run", "checkpoints", "last", "pictures"]

_PICTURES = (
    "report/*.png",
    "report/overlays",
    "evaluate/*/overlays",
    "evaluate/*/maps.npz",
    "analyze/*/overlays",
    "analyze/*/*.png",
)


@dataclass(frozen=True)
class Doomed:
    """Something of a run that would go.

    Attributes:
        run: whose it is.
        paths: files and folders; the run's own folder where all of it goes.
        size: bytes.
    """

    run: RunRecord
    paths: tuple[Path, ...]
    size: int


def choose(
    runs: Sequence[RunRecord],
    *,
    what: What = "run",
    states: Sequence[str] = (),
    older_than: float | None = None,
    keep_best: int | None = None,
    metric: str | None = None,
    now: float | None = None,
) -> tuple[list[Doomed], list[str]]:
    """What fits every condition given, and notes on what was passed over.

    Args:
        runs: all there are.
        what: of a run.
        states: those that may go; empty: all, but finished ones alone where `keep_best` ranks
            them, and where checkpoints are asked for that an unfinished run needs.
        older_than: seconds since the run was last written to.
        keep_best: so many of those that remain are kept.
        metric: by which, the ledger's best value; None: what best.ckpt was chosen by.
        now: seconds since 1970; None: the clock's.
    """
    notes: list[str] = []
    moment = datetime.now(UTC).timestamp() if now is None else now
    careful = keep_best is not None or what in ("checkpoints", "last")
    allowed = list(states) or (["finished"] if careful else [])
    candidates = []
    for run in runs:
        why = _untouchable(run, moment)
        if why:
            notes.append(f"{run.path}: left alone, {why}")
        elif allowed and run.state not in allowed:
            continue
        elif older_than is None or moment - last_written(run) > older_than:
            candidates.append(run)
    if keep_best is not None:
        candidates = _all_but_best(candidates, keep_best, metric, notes)
    doomed = []
    for run in candidates:
        parts = _parts(run, what)
        paths = tuple(path for path in parts if not _behind_a_link(run, path))
        if len(paths) < len(parts):
            notes.append(f"{run.path}: what lies behind a link in it is left alone")
        if paths:
            doomed.append(Doomed(run, paths, _size(paths)))
    return doomed, notes


def remove(doomed: Doomed) -> str:
    """Delete it under the run's own lock; returns why it was not deleted, or nothing.

    The folder is looked at again: a training that began in it meanwhile keeps it.
    """
    why = _untouchable(doomed.run, datetime.now(UTC).timestamp())
    if why:
        return f"{doomed.run.path}: left alone, {why}"
    try:
        with alone(doomed.run.path):
            for path in doomed.paths:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
    except (ConfigError, OSError) as error:
        return f"{doomed.run.path}: not deleted ({error})"
    return ""


def last_written(run: RunRecord) -> float:
    """When the run's status, ledger or checkpoints last changed; seconds since 1970."""
    folder = run.folder
    files = (folder.status, folder.config, folder.ledger, folder.last, folder.best)
    return max((path.stat().st_mtime for path in files if path.is_file()), default=math.inf)


def last_touched(path: Path) -> float:
    """When any file in a folder last changed, a sign of life of its training included."""
    moments = [
        os.lstat(os.path.join(folder, name)).st_mtime  # noqa: PTH118  # some thousand files
        for folder, _, names in os.walk(path)
        for name in names
    ]
    return max(moments, default=math.inf)


def folder_size(path: Path) -> int:
    """Bytes in a file or folder; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        return sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir())
    return path.lstat().st_size if path.exists() else 0


def best_value(run: RunRecord, metric: str | None) -> float:
    """The best value of a ledger column (`val/` may be left out); NaN where there is none."""
    if metric is None:
        value = run.best.get("value")
        return float(value) if isinstance(value, (int, float)) else math.nan
    for name in (metric, f"val/{metric}"):
        values = [value for row in run.rows if math.isfinite(value := _number(row.get(name)))]
        if values:
            return min(values) if _falling(run, name) else max(values)
    return math.nan


def _falling(run: RunRecord, column: str) -> bool:
    return higher_is_better(column, recorded_in([run.status])) is False


def _untouchable(run: RunRecord, moment: float) -> str:
    """Why a folder must not be touched: it is in use, or nobody can be sure that it is a run."""
    if run.path.is_symlink():
        return "a link"
    if run.folder.is_held():
        return "a process is training in it"
    # A training on another machine may be told by nothing else, nor may an evaluation.
    if (age := moment - last_touched(run.path)) < STALE_S:
        return (
            f"it was written to {max(age, 0):.0f} s ago, and something may still be at it: wait "
            f"until nothing has been for {STALE_S / 60:g} minutes"
        )
    try:
        status = json.loads(run.folder.status.read_text())
    except (OSError, ValueError):
        status = None
    sure = isinstance(status, dict) and {"id", "state"} <= status.keys()
    if not sure or not run.folder.config.is_file():
        return "its config.yaml or status.json is missing or broken, so it may not be a run"
    return ""


def _all_but_best(
    runs: Sequence[RunRecord], keep: int, metric: str | None, notes: list[str]
) -> list[RunRecord]:
    """The runs without the `keep` best; a run without a value is not ranked, and stays."""
    columns = {str(run.best.get("metric")) for run in runs} if metric is None else {metric}
    if len(columns) > 1:
        raise ConfigError(
            "keep_best: these runs chose their best.ckpt by different metrics "
            f"({', '.join(sorted(columns))}); say which one ranks them: metric=..."
        )
    ranked = [run for run in runs if math.isfinite(best_value(run, metric))]
    notes += [
        f"{r.path}: kept, it has no {metric or 'best'} value" for r in runs if r not in ranked
    ]
    falling = any(_falling(run, column) for run in ranked for column in columns)
    ranked.sort(key=lambda run: best_value(run, metric), reverse=not falling)
    return ranked[keep:]


def _parts(run: RunRecord, what: What) -> tuple[Path, ...]:
    if what == "run":
        return (run.path,)
    if what == "last":
        found: Iterator[Path] = iter([run.folder.last])
    elif what == "checkpoints":
        found = iter([run.folder.last.parent])
    else:
        found = (path for pattern in _PICTURES for path in run.path.glob(pattern))
    return tuple(sorted({path for path in found if path.exists()}))


def _behind_a_link(run: RunRecord, path: Path) -> bool:
    """Whether a folder between the run's and a path of it is a link to elsewhere."""
    between = [parent for parent in path.parents if run.path in parent.parents]
    return any(parent.is_symlink() for parent in between)


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return math.nan


def _size(paths: Sequence[Path]) -> int:
    return sum(folder_size(path) for path in paths)
