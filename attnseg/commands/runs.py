"""`attnseg runs list|show|prune`: what is on the disk, one run's facts, and making room."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attnseg.commands.help import command_help, show, wants_help
from attnseg.commands.runs_lines import (
    age_words,
    best_words,
    found_runs,
    line_of,
    print_rows,
    size_words,
    write_lines,
)
from attnseg.common.errors import FAILED, ConfigError
from attnseg.config import RunsListConfig, RunsPruneConfig
from attnseg.config.compose import compose_checked
from attnseg.config.grammar import assignment, words_and_overrides

if TYPE_CHECKING:
    from attnseg.runs.records import RunRecord

OVERRIDES = (
    ("list", "every run: name, id, state, epochs, best value, size, age, sweep"),
    ("list root=runs state=crashed sort=best", "state: one or [failed,crashed]; sort: any column"),
    ("show RUN", "a folder, a name or the beginning of an id: facts, last metrics, files"),
    ("prune state=failed older_than=7d", "lists what would go, and its size; yes=true deletes it"),
    ("prune keep_best=3 metric=dice_positive", "all finished runs but the best three"),
    ("prune what=last", "run | checkpoints | last | pictures (default: the whole run)"),
    ("format=json", "table | json | csv"),
)
_ACTIONS = ("list", "show", "prune")


def main(argv: Sequence[str]) -> int:
    """List, show or prune. Returns the exit code."""
    arguments = list(argv)
    if wants_help(arguments) or not arguments:
        purpose = "what is on the disk; a `crashed` run goes on with the command that began it"
        return show(command_help("runs list|show|prune", purpose, (), OVERRIDES))
    action, *rest = arguments
    if action not in _ACTIONS:
        raise ConfigError(f"no action '{action}'; use attnseg runs list, show or prune")
    if action == "show":
        from attnseg.commands.runs_show import show_run

        return show_run(rest)
    roots, words = words_and_overrides(rest)
    words += [assignment("root", root) for root in roots]
    if action == "list":
        return _list(compose_checked("runs_list", words, RunsListConfig))
    return _prune(compose_checked("runs_prune", words, RunsPruneConfig))


def _list(config: RunsListConfig) -> int:
    from attnseg.runs.prune import best_value

    states = _states(config.state)
    runs = [run for run in found_runs(config.root) if not states or run.state in states]
    lines = [line_of(run) for run in runs]
    keys: dict[str, Any] = {
        "best": lambda pair: -best if (best := best_value(pair[0], None)) == best else float("inf"),
        "size": lambda pair: -pair[1]["size"],
        "age": lambda pair: pair[1]["age"],
    }
    key = keys.get(config.sort, lambda pair: (pair[1][config.sort], pair[1]["name"]))
    lines = [line for _, line in sorted(zip(runs, lines, strict=True), key=key)]
    if config.format != "table":
        return write_lines(lines, config.format)
    metrics = {line["best_metric"] for line in lines if line["best_metric"]}
    rows = [
        {
            "id": line["id"],
            "state": line["state"],
            "epochs": f"{line['epoch']}/{line['total_epochs'] or '?'}",
            "best": best_words(line, alone=len(metrics) == 1),
            "size": size_words(line["size"]),
            "age": age_words(line["age"]),
            "sweep": line["sweep"],
            "run": line["name"],
        }
        for line in lines
    ]
    if not any(row["sweep"] for row in rows):
        rows = [{name: text for name, text in row.items() if name != "sweep"} for row in rows]
    best = f"; best: {next(iter(metrics))}" if len(metrics) == 1 else ""
    total = size_words(sum(line["size"] for line in lines))
    print_rows(rows, f"{len(rows)} runs in {config.root}, {total}{best}")
    _say_problems(runs)
    return 0


def _prune(config: RunsPruneConfig) -> int:
    from attnseg.runs.prune import choose, remove

    conditions = (config.state, config.older_than, config.keep_best)
    if config.what == "run" and all(condition is None for condition in conditions):
        raise ConfigError(
            "say which runs may go: state=failed, older_than=7d or keep_best=3 (or what=last, "
            "what=checkpoints, what=pictures for a part of each)"
        )
    if config.metric is not None and config.keep_best is None:
        raise ConfigError("metric: ranks the runs that keep_best keeps; give keep_best=N too")
    from attnseg.config.commands import seconds_of

    doomed, notes = choose(
        found_runs(config.root),
        what=config.what,
        states=_states(config.state),
        older_than=None if config.older_than is None else seconds_of(config.older_than),
        keep_best=config.keep_best,
        metric=config.metric,
    )
    lines = [{**line_of(one.run, size=one.size), "what": config.what} for one in doomed]
    failed = {one.run.path: why for one in doomed if config.yes and (why := remove(one))}
    for one, line in zip(doomed, lines, strict=True):
        line["deleted"] = config.yes and one.run.path not in failed
    for note in [*notes, *failed.values()]:
        print(f"note: {note}", file=sys.stderr)
    if config.format != "table":
        write_lines(lines, config.format)
        return FAILED if failed else 0
    rows = [
        {"run": line["folder"], "state": line["state"], "what": line["what"]}
        | {"size": size_words(line["size"]), "age": age_words(line["age"])}
        for line in lines
    ]
    total = size_words(sum(line["size"] for line in lines))
    done = "deleted" if config.yes else "would go; yes=true deletes it"
    print_rows(rows, f"{len(rows)} runs: {total} {done}")
    return FAILED if failed else 0


def _states(state: str | list[str] | None) -> list[str]:
    """The states asked for.

    Raises:
        ConfigError: one that no run can be in.
    """
    from attnseg.runs.states import STATES

    asked = [state] if isinstance(state, str) else state or []
    wrong = [one for one in asked if one not in STATES]
    if wrong:
        raise ConfigError(f"state={','.join(wrong)}: no such state; there are {', '.join(STATES)}")
    return asked


def _say_problems(runs: Sequence[RunRecord]) -> None:
    for problem in (problem for run in runs for problem in run.problems):
        print(f"note: {problem}", file=sys.stderr)
