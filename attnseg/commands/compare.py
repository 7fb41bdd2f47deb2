"""`attnseg compare`: runs and sweeps beside one another, from their folders alone."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnseg.commands.help import command_help, show, wants_help
from attnseg.common.credentials import concealed
from attnseg.common.errors import ConfigError, DataError
from attnseg.config import CompareConfig, validate
from attnseg.config.compose import compose
from attnseg.config.grammar import words_and_overrides

if TYPE_CHECKING:
    from attnseg.reports.compare.study import ComparedRun
    from attnseg.runs.gather import Gathered

OVERRIDES = (
    ("runs/a runs/b, or SWEEP_FOLDER, or runs", "run folders, and folders that hold some"),
    ("baseline=NAME | ID | schedule=none", "what the others are compared with, case by case"),
    ("split=test", "all | train | val | test (default val)"),
    ("output_dir=OUT", "default: compare/ beside the runs"),
    ("evaluate=never", "do not measure what `attnseg evaluate` has not"),
    ("trust=[mylab]", "networks of your own packages, which a run may name then"),
    ("n_cases=6 cases=[ID,...]", "how many cases side by side, or which"),
    ("metrics=[dice_positive,attention_gt_overlap]", "of the tables and the paired differences"),
    ("heatmap=[schedule,attention] metric=NAME", "which keys and metric the heat map shows"),
    ("labels=['ours','the baseline']", "names for the configurations, in order"),
    ("confidence=0.95 n_resamples=10000 seed=0", "of the bootstrap"),
)


def main(argv: Sequence[str]) -> int:
    """Write compare.csv, compare.md, compare.html and pictures. Returns the exit code."""
    arguments = list(argv)
    if wants_help(arguments) or not arguments:
        purpose = "what differs between runs, how well they do, and how sure that is"
        return show(command_help("compare RUNS_OR_SWEEP...", purpose, (), OVERRIDES))
    words, overrides = words_and_overrides(arguments)
    plain = compose("compare", overrides, CompareConfig)
    config = validate({**plain, "runs": words or None}, CompareConfig) if words else None
    if config is None:
        validate({**plain, "runs": ["-"]}, CompareConfig)  # a wrong key is told as well
        raise ConfigError("name at least one run folder, sweep folder or folder that holds runs")
    from attnseg.runs.gather import gather

    found = gather(words)
    _refuse_nothing(found)
    command = " ".join(map(_typed, ["attnseg", "compare", *arguments]))
    return _compare(config, found, concealed(command))


def _typed(word: str) -> str:
    """A word as one would type it: Hydra's lists have single quotes, so double ones go around."""
    plain = not set(word) & set('"$`\\!')
    return f'"{word}"' if "'" in word and plain else shlex.quote(word)


def _refuse_nothing(found: Gathered) -> None:
    """Refuse where nothing can be compared, with everything that is wrong."""
    if not found.runs:
        raise DataError("there is no run to compare:", found.problems)
    if not any(run.rows for run in found.runs):
        states = [
            f"{run.path}: {run.state}" + (f" ({run.reason})" if run.reason else "")
            for run in found.runs
        ]
        headline = "nothing can be compared: no run has a finished epoch in its metrics.csv"
        raise DataError(headline, [*found.problems, *states])


def _compare(config: CompareConfig, found: Gathered, command: str) -> int:
    from attnseg.commands.compare_check import Present
    from attnseg.commands.compare_measure import measured_runs
    from attnseg.commands.compare_terminal import print_study
    from attnseg.common.files import make_folder
    from attnseg.reports.compare.heatmap import heat_keys
    from attnseg.reports.compare.page import Report, write_comparison
    from attnseg.reports.compare.pairing import Sampling, choose_baselines, compare_pairs
    from attnseg.reports.compare.study import build_study

    folder = Path(config.output_dir) if config.output_dir else _beside(config.runs)
    present = Present(config.trust)
    runs, problems = measured_runs(found.runs, config, present, measure=False)
    study = build_study(runs, config.labels)  # so that a wrong key is told before the work
    choose_baselines(study, config.baseline)
    heat = heat_keys(study, config.heatmap)
    _refuse_unknown(config, runs)
    make_folder(folder, "output_dir")
    if config.evaluate == "missing":
        runs, problems = measured_runs(found.runs, config, present, measure=True)
    study = build_study(runs, config.labels)
    baselines = choose_baselines(study, config.baseline)
    study.notes[:0] = [*found.problems, *_excluded(runs), *problems]
    if len(study.groups) == 1:
        study.notes.append("One configuration alone: there is nothing to compare it with.")
    sampling = Sampling(config.confidence, config.n_resamples, config.seed)
    comparisons = compare_pairs(study, baselines, config.metrics, sampling)
    report = Report(
        title="Comparison: " + ", ".join(dict.fromkeys(Path(w).name or w for w in config.runs)),
        metrics=config.metrics,
        metric=config.metric,
        confidence=config.confidence,
        heat=heat,
        case_ids=_case_ids(runs, config, study.notes),
        command=command,
    )
    page = write_comparison(study, comparisons, report, folder)
    print_study(study, comparisons, config.metrics)
    print(f"page: {page}")
    return 0


def _beside(words: Sequence[str]) -> Path:
    """compare/ in the folder that holds all the runs."""
    from attnseg.runs.records import looks_like_run

    paths = [Path(word) for word in words if Path(word).is_dir()]
    homes = [path.resolve().parent if looks_like_run(path) else path.resolve() for path in paths]
    common = Path(os.path.commonpath(homes))
    here = Path.cwd()
    common = common.relative_to(here) if common.is_relative_to(here) else common
    return common / "compare"


def _excluded(runs: Sequence[ComparedRun]) -> list[str]:
    """A sentence on the runs that statistics leave out, with each run's reason."""
    return [
        f"{run.record.name} is shown, and left out of means and differences: {run.left_out}"
        for run in runs
        if run.left_out
    ]


def _refuse_unknown(config: CompareConfig, runs: Sequence[ComparedRun]) -> None:
    """Refuse a metric that no run has and no evaluation makes: it is mistyped.

    Raises:
        ConfigError: with the nearest names that there are.
    """
    import difflib

    from attnseg.config.measures import own_measures

    found = {name for run in runs for name in (*run.summary, *run.from_ledger)}
    known = sorted(found | set(own_measures()))
    asked = {"metric": [config.metric], "metrics": config.metrics}
    wrong = []
    for key, names in asked.items():
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                wrong.append(f"  - {key}={name}: no run has it{hint}")
    if wrong:
        raise ConfigError("\n".join(["unknown metrics:", *wrong]))


def _case_ids(
    runs: Sequence[ComparedRun], config: CompareConfig, notes: list[str]
) -> Sequence[str]:
    """The cases to show: of the first measured run, which the others have too."""
    from attnseg.reports.compare.pictures import wanted_cases

    first = next((r.evaluation for r in runs if r.evaluation and not r.left_out), None)
    if first is None:
        return []
    ids = wanted_cases(first, config.n_cases, config.cases)
    missing = [case_id for case_id in config.cases if case_id not in ids]
    if missing:
        notes.append(f"cases={','.join(missing)}: not in the {config.split} split")
    return ids
