"""`attnseg report`: a run's page and curves made anew, from the files of its folder alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from attnseg.commands.help import command_help, show, wants_help
from attnseg.common.errors import FAILED, ConfigError, DataError
from attnseg.config.grammar import words_and_overrides

OVERRIDES = (
    ("runs/a runs/b, or SWEEP_FOLDER, or runs", "run folders, and folders that hold some"),
)


def main(argv: Sequence[str]) -> int:
    """Write report/report.html of every run that is named. Returns the exit code."""
    arguments = list(argv)
    if wants_help(arguments) or not arguments:
        purpose = "write report/report.html of a run anew, whatever state the run is in"
        return show(command_help("report RUN_OR_SWEEP...", purpose, (), OVERRIDES))
    words, overrides = words_and_overrides(arguments)
    if overrides:
        raise ConfigError(f"{overrides[0]}: no such key or folder; report takes run folders alone")
    from attnseg.reports.page import write_run_report
    from attnseg.runs.gather import gather

    found = gather(words)
    if not found.runs:
        raise ConfigError("\n".join(found.problems))
    failed = False
    for problem in found.problems:
        print(f"note: {problem}", file=sys.stderr)
    for run in found.runs:
        if not run.path.is_dir():
            print(f"note: {run.path}: {run.state}, there is nothing to report of", file=sys.stderr)
            continue
        try:
            print(write_run_report(run.path))
        except (DataError, OSError) as error:
            failed = True
            print(f"attnseg report: {run.path}: {error}", file=sys.stderr)
    return FAILED if failed else 0
