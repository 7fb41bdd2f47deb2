"""Which runs some words on a command line mean: run folders, folders of them, sweeps."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attnseg.runs.records import RunRecord, looks_like_run, read_record
from attnseg.runs.states import STATES, State

SWEEP_FILE = "sweep.json"
_DEPTH = 4  # folders below the one that was named; runs are not looked for inside runs


@dataclass
class Gathered:
    """The runs found, in order, and what was wrong on the way (a line each)."""

    runs: list[RunRecord] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _places: set[Path] = field(default_factory=set, repr=False)

    def add(self, run: RunRecord) -> None:
        """Add a run, unless its folder is there already."""
        place = run.path.resolve()
        if place not in self._places:
            self._places.add(place)
            self.runs.append(run)
            self.problems += run.problems


def gather(words: Sequence[str | Path]) -> Gathered:
    """Read every run that the words name; a word that names none is a problem, not an error."""
    found = Gathered()
    for word in words:
        path = Path(word)
        before = len(found.runs) + len(found.problems)
        if not path.exists():
            found.problems.append(f"{word}: no such folder")
        elif not path.is_dir():
            found.problems.append(f"{word}: a file, not a run folder")
        elif looks_like_run(path):
            found.add(read_record(path))
            continue
        else:
            _below(path, found, _DEPTH)
            inside = [run for run in found.runs if path.resolve() in run.path.resolve().parents]
            if len(found.runs) + len(found.problems) == before and not inside:
                found.problems.append(f"{word}: no run folder, and holds none")
    return found


def find_runs(root: Path) -> Iterator[Path]:
    """Every run folder below `root` (or itself), by name; symbolic links are not followed."""
    if looks_like_run(root):
        yield root
        return
    yield from _walk(root, _DEPTH)


def sweeps_of(root: Path) -> dict[Path, str]:
    """Resolved run folder -> name of the sweep below `root` whose sweep.json lists it."""
    names: dict[Path, str] = {}
    for file in sorted(_sweep_files(root, _DEPTH)):
        found = Gathered()
        _sweep(file, found)
        names |= {run.path.resolve(): run.sweep for run in found.runs}
    return names


def _sweep_files(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / SWEEP_FILE).is_file():
        yield folder / SWEEP_FILE
    if depth and folder.is_dir() and not looks_like_run(folder):
        for inner in _folders(folder):
            yield from _sweep_files(inner, depth - 1)


def _below(path: Path, found: Gathered, depth: int) -> None:
    """Runs inside a folder; a sweep's own list goes before what lies beside it."""
    if (path / SWEEP_FILE).is_file():
        _sweep(path / SWEEP_FILE, found)
    for inner in _folders(path):
        if looks_like_run(inner):
            found.add(read_record(inner))
        elif depth:
            _below(inner, found, depth - 1)


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    for inner in _folders(folder):
        if looks_like_run(inner):
            yield inner
        elif depth:
            yield from _walk(inner, depth - 1)


def _folders(path: Path) -> list[Path]:
    """Folders inside, by name; hidden and linked ones are not the user's runs."""
    try:
        inside = sorted(path.iterdir())
    except OSError:
        return []
    return [p for p in inside if p.is_dir() and not p.is_symlink() and p.name[:1] != "."]


def _sweep(file: Path, found: Gathered) -> None:
    """The jobs of a sweep.json; of a job without a folder the sweep says what became of it."""
    try:
        sweep = json.loads(file.read_text())
        jobs = [dict(job) for job in sweep["jobs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        found.problems.append(f"{file}: cannot be read as a sweep ({type(error).__name__})")
        return
    name = str(sweep.get("name") or file.parent.name)
    for index, job in enumerate(jobs):
        found.add(_job(file.parent, name, job, index))


def _job(folder: Path, sweep: str, job: Mapping[str, Any], index: int) -> RunRecord:
    place = job.get("run_dir")
    # As text, since a run beside its sweep is at `../..` of it, which nobody wants to read.
    path = Path(os.path.normpath(folder / str(place or f"job-{job.get('index', index)}")))
    overrides = job.get("overrides")
    varied = dict(overrides) if isinstance(overrides, Mapping) else {}
    if path.is_dir() and looks_like_run(path):
        run = read_record(path)
        return replace(run, sweep=run.sweep or sweep, varied={**varied, **run.varied})
    said, reason = job.get("state"), str(job.get("reason") or "")
    state: State = next((each for each in STATES if each == said), "unknown")
    problems: tuple[str, ...] = ()
    if state not in ("pending", "invalid", "failed", "unknown"):
        reason = f"the sweep lists it as {state}, and its folder is not there"
        state = "gone"
        problems = (f"{path}: listed by {folder / SWEEP_FILE}, and not there",)
    return RunRecord(
        path=path,
        name=str(job.get("name") or path.name),
        id=str(job.get("run_id") or ""),
        state=state,
        reason=reason,
        sweep=sweep,
        varied=varied,
        problems=problems,
    )
