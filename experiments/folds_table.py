"""Pools the folds of sweeps: every case once, from the run that did not train on it.

    python experiments/folds_table.py RUNS_FOLDER... [--baseline none] [--folds 0 1 2] [--root DRRS]
        [--pool-origins]

Measures each finished run on its validation fold where that has not been done, and prints means
over all cases and paired differences to a baseline, with bootstrap intervals over patients. A row
is called by its network and its attention, and by what else tells it from the first such row.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from attnseg.cli import main as attnseg
from attnseg.commands.compare_check import Present
from attnseg.reports.compare.differences import (
    Flat,
    defining,
    differing_keys,
    short_names,
    words_of,
)
from attnseg.reports.compare.evaluations import CaseRow, read_evaluation
from attnseg.reports.compare.statistics import bootstrap_interval
from attnseg.runs.records import read_record

METRICS = (
    "dice_positive",
    "seg_gt_overlap",
    "attention_gt_overlap",
    "attention_gt_distance",
    "attention_seg_corr",
    "pointing_game",
)
COLUMN = {"dice_positive": "dice"}
Cases = dict[str, CaseRow]


def cases_of(run: Path, extra: list[str], present: Present) -> Cases:
    """The rows of a run's held-out cases, by case id; measured where none hold."""
    out, record = run / "evaluate" / "folds", read_record(run)
    evaluation, why = read_evaluation(record, "val", out)
    if evaluation is not None:
        standing = present.standing(evaluation, record.folder.best, record.config, "val")
        if standing.kind == "unchecked":
            print(f"{run}: {standing.why}", file=sys.stderr)
        elif standing.kind != "holds":
            evaluation = None
    if evaluation is None:
        words = [f"checkpoint='{run}'", "split=val", f"output_dir='{out}'", "n_pictures=0"]
        if attnseg(["evaluate", *words, "accelerator=cpu", *extra]):
            raise SystemExit(f"{run}: could not be measured")
        evaluation, why = read_evaluation(record, "val", out)
        if evaluation is None:
            raise SystemExit(f"{run}: {why}")
    return dict(evaluation.cases)


def number(row: CaseRow, metric: str) -> float:
    """A case's value; NaN where it has no meaning."""
    text = row.get(COLUMN.get(metric, metric), "")
    return float(text) if text else math.nan


def mean(values: list[float]) -> float:
    """Over those that are no NaN; NaN where there is none."""
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else math.nan


def name_of(settings: dict[str, Any]) -> str:
    """A run's row: its network and its attention, the light encoder left unsaid."""
    model = settings["model"]
    if model["name"] == "monai":
        return str(model["network"]["_target_"]).rpartition(".")[2]
    encoder = model.get("encoder", {"name": model["name"]})
    words = [] if encoder["name"] == "light" else [encoder["name"]]
    words += [encoder["weights"]] if encoder.get("weights") else []
    return " ".join([*words, settings["attention"]["name"]])


def row_of(settings: dict[str, Any], first: dict[str, Flat], *, pool_origins: bool) -> str:
    """The run's row: its name and what differs from `first`, the first run of that name."""
    name, flat = name_of(settings), defining(settings)
    flat.pop("data.split.fold")
    if pool_origins and flat.get("origin"):
        flat["origin"] = str(flat["origin"]).partition(":")[0]
    keys = differing_keys([first.setdefault(name, flat), flat])
    short = short_names(keys)
    return " ".join([name, *(f"{short[key]}={words_of(flat.get(key))}" for key in keys)])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--baseline", default="none", help="the row that others are compared with")
    parser.add_argument("--folds", nargs="*", type=int, help="only these")
    parser.add_argument("--root", help="data.root, where it has moved")
    parser.add_argument(
        "--pool-origins",
        action="store_true",
        help="runs that were warm-started are one row, from whatever (each fold from its own)",
    )
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    args = arguments()
    extra = [f"data.root={args.root}"] if args.root else []
    pooled: dict[str, Cases] = defaultdict(dict)
    folds: dict[str, list[int]] = defaultdict(list)
    first: dict[str, Flat] = {}
    unfinished: list[Path] = []
    present = Present()
    for config in (path for root in args.runs for path in sorted(root.glob("*/config.yaml"))):
        settings = yaml.safe_load(config.read_text())
        fold = settings["data"]["split"]["fold"]
        if not (config.parent / "report" / "report.html").exists():
            unfinished.append(config.parent)
        elif fold in (args.folds or [fold]):
            row = row_of(settings, first, pool_origins=args.pool_origins)
            if fold in folds[row]:
                raise SystemExit(f"{config.parent}: fold {fold} of '{row}' is there twice")
            folds[row].append(fold)
            pooled[row] |= cases_of(config.parent, extra, present)
    if unfinished:
        print("left out, not finished:", *unfinished, file=sys.stderr)
    if not pooled:
        raise SystemExit(f"no finished run of these folds in {' '.join(map(str, args.runs))}")
    if args.baseline not in pooled:
        raise SystemExit(f"--baseline '{args.baseline}': there are {', '.join(map(repr, pooled))}")
    print("| model | folds | positive cases |", " | ".join(METRICS), "|")
    print("|---" * (len(METRICS) + 3) + "|")
    for name, rows in pooled.items():
        means = [mean([number(r, m) for r in rows.values()]) for m in METRICS]
        n = sum(not math.isnan(number(row, "dice_positive")) for row in rows.values())
        shown = " | ".join("" if math.isnan(v) else f"{v:.3f}" for v in means)
        print(f"| {name} | {sorted(folds[name])} | {n} | {shown} |")
    base = pooled[args.baseline]
    for name, rows in pooled.items():
        for metric in ("dice_positive", "seg_gt_overlap"):
            both = [key for key in rows if key in base and name != args.baseline]
            pairs = [(number(rows[k], metric) - number(base[k], metric), k) for k in both]
            kept = [(value, key) for value, key in pairs if not math.isnan(value)]
            if not kept:
                continue
            values = np.array([value for value, _ in kept])
            patients = [rows[key]["patient_id"] for _, key in kept]
            low, high = bootstrap_interval(values, patients)
            difference = f"{values.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
            print(
                f"{name} - {args.baseline}, {metric}: {difference}, {len(set(patients))} patients"
            )


if __name__ == "__main__":
    main()
