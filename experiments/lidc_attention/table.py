"""Pools the folds of a sweep: every case once, from the run that did not train on it.

    python experiments/lidc_attention/table.py RUNS_FOLDER [data.root=...]

Measures each finished run on its validation fold where that has not been done, and prints means
over all cases and paired differences to `attention=none`, with bootstrap intervals over patients.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml

from attnseg.cli import main as attnseg
from attnseg.reports.compare.statistics import bootstrap_interval

METRICS = (
    "dice_positive",
    "seg_gt_overlap",
    "attention_gt_overlap",
    "attention_gt_distance",
    "attention_seg_corr",
    "pointing_game",
)
COLUMN = {"dice_positive": "dice"}
Cases = dict[str, dict[str, str]]


def cases_of(run: Path, extra: list[str]) -> Cases:
    """The rows of a run's held-out cases, by case id."""
    out = run / "evaluate" / "folds"
    if not (out / "cases.csv").exists():
        words = [f"checkpoint='{run}'", "split=val", f"output_dir='{out}'", "n_pictures=0"]
        if attnseg(["evaluate", *words, "accelerator=cpu", *extra]):
            raise SystemExit(f"{run}: could not be measured")
    with (out / "cases.csv").open(newline="") as stream:
        return {row["case_id"]: row for row in csv.DictReader(stream)}


def number(row: dict[str, str], metric: str) -> float:
    """A case's value; NaN where it has no meaning."""
    text = row.get(COLUMN.get(metric, metric), "")
    return float(text) if text else math.nan


def mean(values: list[float]) -> float:
    """Over those that are no NaN; NaN where there is none."""
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else math.nan


def main() -> None:
    """Print the tables."""
    root, extra = Path(sys.argv[1]), sys.argv[2:]
    pooled: dict[str, Cases] = defaultdict(dict)
    folds: dict[str, list[int]] = defaultdict(list)
    for config in sorted(root.glob("*/config.yaml")):
        if not (config.parent / "report" / "report.html").exists():
            continue  # unfinished
        settings = yaml.safe_load(config.read_text())
        model = settings["model"]
        name = settings["attention"]["name"]
        if model["name"] == "monai":
            name = model["network"]["_target_"].rpartition(".")[2]
        folds[name].append(settings["data"]["split"]["fold"])
        pooled[name] |= cases_of(config.parent, extra)
    print("| model | folds | positive cases |", " | ".join(METRICS), "|")
    print("|---" * (len(METRICS) + 3) + "|")
    for name, rows in pooled.items():
        means = [mean([number(r, m) for r in rows.values()]) for m in METRICS]
        n = sum(not math.isnan(number(row, "dice_positive")) for row in rows.values())
        shown = " | ".join("" if math.isnan(v) else f"{v:.3f}" for v in means)
        print(f"| {name} | {sorted(folds[name])} | {n} | {shown} |")
    base = pooled["none"]
    for name, rows in pooled.items():
        for metric in ("dice_positive", "seg_gt_overlap"):
            both = [key for key in rows if key in base and name != "none"]
            pairs = [(number(rows[k], metric) - number(base[k], metric), k) for k in both]
            kept = [(value, key) for value, key in pairs if not math.isnan(value)]
            if not kept:
                continue
            values = np.array([value for value, _ in kept])
            patients = [rows[key]["patient_id"] for _, key in kept]
            low, high = bootstrap_interval(values, patients)
            print(f"{name} - none, {metric}: {values.mean():+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
