"""`attnseg runs show`: all that a run's folder says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnseg.commands.runs_lines import (
    age_words,
    found_runs,
    line_of,
    print_rows,
    size_words,
    words_of,
    write_lines,
)
from attnseg.common.errors import ConfigError
from attnseg.config import RunsShowConfig, validate
from attnseg.config.compose import compose
from attnseg.config.grammar import words_and_overrides

if TYPE_CHECKING:
    from attnseg.runs.records import RunRecord


def show_run(arguments: Sequence[str]) -> int:
    """Print facts, files and last metrics of one run. Returns the exit code."""
    words, overrides = words_and_overrides(arguments)
    plain = compose("runs_show", overrides, RunsShowConfig)
    config = validate({**plain, "run": words[0] if len(words) == 1 else "?"}, RunsShowConfig)
    if len(words) != 1:
        raise ConfigError("name one run: its folder, its name, or the beginning of its id")
    run = _one(config)
    facts = facts_of(run)
    if config.format == "json":
        return write_lines([facts], "json", alone=True)
    nested = {name: value for name, value in facts.items() if isinstance(value, dict)}
    flat = {k: v for k, v in facts.items() if k not in nested and v not in (None, "", [])}
    if config.format == "csv":
        return write_lines([flat | facts["last_metrics"]], "csv")
    shown = flat | {"size": size_words(facts["size"]), "age": age_words(facts["age"])}
    rows = [{"": name, "value": words_of(value)} for name, value in shown.items()]
    rows += [{"": path, "value": size_words(size)} for path, size in facts["files"].items()]
    print_rows(rows, run.name)
    metrics = [{"": name, "value": cell} for name, cell in facts["last_metrics"].items()]
    if metrics:
        print_rows(metrics, f"last row of metrics.csv, epoch {run.epoch}")
    return 0


def facts_of(run: RunRecord) -> dict[str, Any]:
    """What is known of a run, in plain types; files by their place in its folder."""
    from attnseg.runs.prune import folder_size

    files = [
        *sorted(run.folder.last.parent.glob("*.ckpt")),
        run.folder.report / "report.html",
        *sorted(run.path.glob("evaluate/*/metrics.json")),
        *sorted(run.path.glob("analyze/*/analysis.html")),
        run.path / "traceback.txt",
    ]
    last = run.rows[-1] if run.rows else {}
    told = ("started", "ended", "host", "command")
    return {
        **line_of(run),
        "reason": run.reason,
        **{name: run.status.get(name) for name in told},
        "problems": list(run.problems),
        "files": {str(p.relative_to(run.path)): folder_size(p) for p in files if p.exists()},
        "last_metrics": {name: cell for name, cell in last.items() if cell},
    }


def _one(config: RunsShowConfig) -> RunRecord:
    """The run that a folder, a name or the beginning of an id means.

    Raises:
        ConfigError: none, or several.
    """
    from attnseg.runs.records import looks_like_run, read_record

    path = Path(config.run)
    if path.is_dir():
        if not looks_like_run(path):
            raise ConfigError(f"{path}: not a run folder (it has no status.json)")
        return read_record(path)
    runs = found_runs(config.root)
    exact = [run for run in runs if config.run in (run.name, run.path.name, run.id, *run.ids)]
    fits = exact or [
        run for run in runs if any(one.startswith(config.run) for one in (run.id, *run.ids))
    ]
    if len(fits) == 1:
        return fits[0]
    if not fits:
        raise ConfigError(f"{config.run}: no run of that folder, name or id in root={config.root}")
    some = "\n".join(f"  - {run.path} (id {run.id})" for run in fits[:20])
    raise ConfigError(f"{config.run}: fits {len(fits)} runs; give a folder:\n{some}")
