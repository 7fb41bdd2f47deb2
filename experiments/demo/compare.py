"""The demo beside the failing baseline: two runs, one picture, one table.

`make compare-demo` runs it. Both runs share everything but `attention=` and `schedule=`; both
are measured on the same held-out test patients, at the threshold each chose on validation.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import torch

from attnseg.cli import main
from attnseg.commands.measure import Job, prepare
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.evaluation import EvaluatedCase, evaluate_batches
from attnseg.models import build_model
from attnseg.reports.overlays import OverlayCase, draw_comparison

HERE = Path(__file__).parent
RUNS = {
    "anatomical attention, two-phase schedule": ("runs/demo", []),
    "DRR attention, no supervision": (
        "runs/demo-baseline",
        ["attention=drr", "schedule=none", "run.dir=runs/demo-baseline"],
    ),
}
SHOWN = (
    "attention_gt_overlap",
    "attention_gt_distance",
    "attention_seg_corr",
    "pointing_game",
    "seg_gt_overlap",
    "dice_positive",
    "dice_global",
    "froc_sensitivity_at_1",
)
N_CASES = 4


def measured(job: Job) -> tuple[dict[str, Any], list[OverlayCase]]:
    """Summary of the test split, and its first positive cases with their maps."""
    model = build_model(job.checkpoint.config.model, job.checkpoint.config.attention)
    job.checkpoint.load_into(model)
    loader = AttnSegDataModule(job.data, job.checkpoint.config.seed).eval_dataloader("test")
    cases: list[OverlayCase] = []

    def keep(seen: EvaluatedCase) -> None:
        if seen.row["n_mask_pixels"] and len(cases) < N_CASES:
            cases.append(
                OverlayCase(
                    case_id=seen.row["case_id"],
                    xray=seen.xray,
                    drr=seen.drr,
                    mask=seen.mask,
                    attention=seen.attention,
                    probability=seen.probability,
                    threshold=job.checkpoint.threshold,
                    metrics={k: v for k, v in seen.row.items() if isinstance(v, float)},
                    content=seen.content,
                )
            )

    result = evaluate_batches(model, loader, threshold=job.checkpoint.threshold, on_case=keep)
    return dict(result.summary), cases


def run() -> int:
    """Train what is missing, measure, write results.csv and comparison.png."""
    torch.manual_seed(0)
    table, drawn = [], {}
    for label, (folder, overrides) in RUNS.items():
        code = main(["train", "experiment=demo", *overrides])
        if code != 0:
            return code
        job = prepare("evaluate", [f"checkpoint={folder}", "split=test"])
        summary, drawn[label] = measured(job)
        table.append({"run": label, "split": "test", "n_cases": summary["n_cases"]})
        table[-1] |= {name: summary[name] for name in SHOWN}
    with (HERE / "results.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    headers = {row["run"]: {name: row[name] for name in SHOWN} for row in table}
    picture = draw_comparison(drawn, HERE / "comparison.png", headers=headers)
    print(json.dumps(table, indent=2))
    print(f"picture: {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(run())
