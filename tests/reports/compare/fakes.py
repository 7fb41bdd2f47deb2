"""Run folders as `attnseg train` and `attnseg evaluate` leave them, without any training."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.reports.compare.evaluations import read_evaluation
from attnseg.reports.compare.maps import write_maps
from attnseg.reports.compare.study import ComparedRun, left_out
from attnseg.runs.identity import run_identity, run_name
from attnseg.runs.ledger import write_row
from attnseg.runs.records import read_record
from tests.reports.fakes import ledger_row, overlay_case

EPOCHS = 4
N_CASES = 24
LOWER = ("attention_gt_distance",)


@lru_cache
def configured(overrides: tuple[str, ...]) -> TrainConfig:
    return compose_checked("train", [f"schedule.total_epochs={EPOCHS}", *overrides], TrainConfig)


def fake_run(
    path: Path,
    *overrides: str,
    quality: float = 0.7,
    state: str = "finished",
    reason: str | None = None,
    epochs: int = EPOCHS,
    evaluated: str | None = "test",
    **cases: Any,
) -> Path:
    """One run; `cases` go to `write_cases`. A best.ckpt that is older than its evaluation."""
    config = configured(overrides)
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    for epoch in range(epochs):
        row = ledger_row(epoch, EPOCHS, EPOCHS // 2)
        write_row(path / "metrics.csv", row | {"val/dice_positive": quality * (epoch + 1) / 9})
    status = {
        "id": run_identity(config),
        "name": run_name(config),
        "state": state,
        "reason": reason or {"finished": "all epochs"}.get(state),
        "epoch": epochs,
        "best": {"metric": "val/dice_positive", "value": quality, "epoch": max(1, epochs)},
        "command": "attnseg train",
    }
    (path / "status.json").write_text(json.dumps(status))
    (path / "checkpoints").mkdir()
    for name in ("best.ckpt", "last.ckpt"):
        (path / "checkpoints" / name).write_bytes(b"not a checkpoint")
    if evaluated:
        write_cases(path, evaluated, quality=quality, seed=config.seed, **cases)
    return path


def write_cases(
    run: Path,
    split: str = "test",
    *,
    quality: float = 0.7,
    seed: int = 1,
    ids: Iterable[int] = range(N_CASES),
    per_patient: int = 2,
    mask_pixels: int = 200,
    maps: bool = False,
    **more: Any,
) -> Path:
    """The evaluation of a run: cases of some difficulty each, the same for every run."""
    folder = run / "evaluate" / f"phantom-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in ids:
        hard = float(np.random.default_rng((3, index)).uniform(0.6, 1.0))
        noise = float(np.random.default_rng((seed, index, int(1000 * quality))).normal(0, 0.02))
        dice = quality * hard + noise
        lesion = index % 6 != 5
        rows.append(
            {
                "case_id": f"case-{index:03d}",
                "patient_id": f"p{index // per_patient:03d}",
                "height": 96,
                "width": 96,
                "n_mask_pixels": mask_pixels if lesion else 0,
                "dice": repr(dice) if lesion else "",
                "attention_gt_overlap": repr(min(1.0, 1.1 * dice)) if lesion else "",
                "attention_gt_distance": repr(100 * (1 - dice)) if lesion else "",
            }
        )
    with (folder / "cases.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with_lesion = [row for row in rows if row["dice"]]
    summary = {
        name: float(np.mean([float(row[column]) for row in with_lesion]))
        for name, column in (
            ("dice_positive", "dice"),
            ("attention_gt_overlap", "attention_gt_overlap"),
            ("attention_gt_distance", "attention_gt_distance"),
        )
    }
    about = {"n_cases": len(rows), "n_positive": len(with_lesion), "as_trained": True, **more}
    (folder / "metrics.json").write_text(json.dumps(summary | about))
    if maps:
        write_maps([fake_map(index, quality) for index in list(ids)[:3]], folder / "maps.npz")
    return folder


def fake_map(index: int, quality: float = 0.9) -> Any:
    """The images of `case-00<index>`."""
    return overlay_case(index, quality)


def age(path: Path, seconds: float) -> None:
    """Make a file (or all files of a folder) so much older than it is."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for file in files:
        moment = file.stat().st_mtime - seconds
        os.utime(file, (moment, moment))


def compared(paths: Iterable[Path], split: str = "test") -> list[ComparedRun]:
    """What `attnseg compare evaluate=never` makes of run folders."""
    records = [read_record(path) for path in paths]
    return [
        ComparedRun(r, None if reason else read_evaluation(r, split)[0], split, reason)
        for r, reason in zip(records, left_out(records), strict=True)
    ]


def grid(root: Path, factors: Mapping[str, Iterable[str]], seeds: Iterable[int] = (1, 2)) -> None:
    """A sweep over two factors; the quality grows with the place in the grid."""
    (first, ones), (second, twos) = factors.items()
    for i, one in enumerate(ones):
        for j, two in enumerate(twos):
            for seed in seeds:
                words = (f"{first}={one}", f"{second}={two}", f"seed={seed}")
                name = f"{one}-{two}-s{seed}"
                fake_run(root / name, *words, quality=0.5 + 0.1 * i + 0.05 * j, maps=True)
