"""Realistic make-believe: a run folder, cases and summaries, from explicit seeds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from attnseg.reports.overlays import OverlayCase
from attnseg.runs.ledger import write_row

FROC = (0.125, 0.25, 0.5, 1, 2, 4, 8)


def ledger_row(epoch: int, total: int = 60, switch: int = 20, every: int = 1) -> dict[str, object]:
    """Row of the 0-based `epoch` of a run that learns; metrics only every `every` epochs."""
    rng = np.random.default_rng((7, epoch))
    t = epoch / total
    decay, grow = math.exp(-4 * t), 1 - math.exp(-3 * t)
    weight = 0.5 - 0.4 * epoch / switch if epoch < switch else 0.1 - 0.05 * t
    row: dict[str, object] = {
        "epoch": epoch + 1,
        "phase": "attention supervision" if epoch < switch else "joint",
        "step": 30 * (epoch + 1),
        "weight/segmentation": 1.0,
        "weight/attention": weight,
        "weight/alignment": 0.0 if epoch < switch else 0.1,
    }
    for group, factor in (("attention", 2.0), ("head", 1.0), ("backbone", 0.1)):
        row[f"lr/{group}"] = 1e-3 * factor * 0.5 * (1 + math.cos(math.pi * t)) + 1e-6
    for split, worse in (("train", 1.0), ("val", 1.15)):
        wobble = 1 + 0.05 * rng.normal()
        terms = {
            "segmentation/bce": 0.3 * decay + 0.02,
            "segmentation/dice": 0.95 - 0.5 * grow,
            "segmentation/focal": 0.05 * decay + 0.001,
            "attention/bce": 0.4 * decay + 0.05,
            "attention/focal": 0.06 * decay + 0.004,
            "alignment": 0.9 - 0.6 * grow,
        }
        terms["segmentation"] = sum(v for k, v in terms.items() if k.startswith("segmentation/"))
        terms["attention"] = sum(v for k, v in terms.items() if k.startswith("attention/"))
        terms["total"] = terms["segmentation"] + weight * terms["attention"]
        row |= {f"{split}/loss/{k}": v * worse * wobble for k, v in terms.items()}
    if epoch % every == 0:
        row |= {f"val/{name}": value for name, value in metrics(grow, rng).items()}
        row["train/dice_positive"] = 0.85 * grow
    return row


def metrics(quality: float, rng: np.random.Generator) -> dict[str, float]:
    """Every metric of the contract for a model of `quality` in [0, 1]."""
    noise = 0.01 * float(rng.normal())
    found = {
        "attention_gt_overlap": 0.1 + 0.75 * quality + noise,
        "seg_gt_overlap": 0.1 + 0.7 * quality + noise,
        "attention_seg_overlap": 0.1 + 0.4 * quality,
        "attention_gt_corr": 0.5 * quality,
        "seg_gt_corr": 0.7 * quality,
        "attention_seg_corr": 0.6 * quality + noise,
        "attention_gt_distance": 120 - 95 * quality + 50 * noise,
        "pointing_game_distance": 110 - 95 * quality,
        "attention_min": 0.02,
        "attention_max": 0.4 + 0.55 * quality,
        "attention_std": 0.03 + 0.04 * quality,
        "pointing_game": 0.75 * quality,
        "energy_inside": 0.004 + 0.12 * quality,
        "area_baseline": 0.004,
        "soft_iou": 0.15 * quality,
        "nss": 4.0 * quality,
        "dice_positive": 0.68 * quality + noise,
        "dice_global": 0.71 * quality,
        "dice_original": 0.6 * quality,
        "iou_positive": 0.53 * quality,
        "hd95": 90 - 70 * quality,
        "false_positive_pixels_per_negative": 300 * (1 - quality),
        "false_positive_lesions_per_negative": 2 * (1 - quality),
        "n_cases": 24,
        "n_positive": 20,
        "n_empty": 4,
    }
    found |= {f"froc_sensitivity_at_{rate}": quality * (0.6 + 0.05 * rate) for rate in FROC}
    for name in ("attention_gt_distance", "pointing_game_distance", "hd95"):
        found[f"{name}_mm"] = 0.7 * found[name]
    return found


def overlay_case(seed: int, quality: float = 0.9, lesion: bool = True) -> OverlayCase:
    """A chest-like picture, 96 x 96 with 8 rows of padding above and below."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    lungs = sum(np.exp(-(((x - s) / 0.28) ** 4) - ((y + 0.05) / 0.62) ** 4) for s in (-0.42, 0.42))
    drr = 1 - 0.8 * lungs + 0.1 * np.sin(22 * y + 3 * np.abs(x)) + 0.02 * rng.normal(size=x.shape)
    row, column = rng.uniform(-0.35, 0.35), rng.choice([-1, 1]) * rng.uniform(0.3, 0.5)
    squared = (y - row) ** 2 + (x - column) ** 2
    mask = (squared < 0.06**2).astype(np.uint8) if lesion else np.zeros(x.shape, np.uint8)
    drr = drr + 0.25 * mask
    wrong = (y + row) ** 2 + (x + column) ** 2
    attention = np.clip(
        quality * np.exp(-squared / 0.03) + (1 - quality) * np.exp(-wrong / 0.1), 0, 1
    )
    probability = np.clip(quality * np.exp(-squared / 0.006) + 0.02 * rng.random(x.shape), 0, 1)
    for image in (drr, attention, probability):
        image[:8] = image[-8:] = 0
    values = metrics(quality, rng) | {"dice": 0.7 * quality}
    xray = drr + 0.05 * rng.normal(size=drr.shape)
    return OverlayCase(
        f"case-{seed:03d}", xray, drr, mask, attention, probability, 0.5, values, (8, 0, 80, 96)
    )


def run_folder(path: Path, epochs: int = 60, **options: int) -> Path:
    """A finished run as `attnseg train` leaves it, without pictures."""
    path.mkdir(parents=True, exist_ok=True)
    for epoch in range(epochs):
        write_row(path / "metrics.csv", ledger_row(epoch, epochs, epochs // 3, **options))
    config: dict[str, Any] = {
        "seed": 1,
        "data": {"name": "phantom", "size": 256, "n_cases": 120},
        "attention": {"name": "anatomical"},
        "schedule": {"name": "two_phase"},
        "callbacks": {"checkpoint": {"monitor": "val/dice_positive", "mode": "max"}},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    status = {
        "id": "0a1b2c3d",
        "name": "phantom-dual_pathway-anatomical-two_phase-s1",
        "state": "finished",
        "reason": "all epochs",
        "started": "2026-11-23T09:00:00+00:00",
        "ended": "2026-11-23T10:00:00+00:00",
        "best": {"metric": "val/dice_positive", "value": 0.661, "epoch": max(1, epochs - 3)},
        "versions": {"attnseg": "0.1.0", "torch": "2.13.0"},
        "host": "laptop",
        "command": "attnseg train schedule=two_phase",
        "updated": "2026-11-23T10:00:00+00:00",
        "data": {
            "source": "phantom",
            "xray": "the DRR itself",
            "splits": {
                "train": {"cases": 96, "patients": 96},
                "val": {"cases": 24, "patients": 24},
            },
            "left_out": [f"case-{index:03d}" for index in range(96)],
        },
    }
    (path / "status.json").write_text(json.dumps(status))
    return path


def case_rows(n: int, seed: int = 0, **changes: float) -> list[dict[str, Any]]:
    """Rows of `n` positive cases of a healthy model; `changes` set columns to other values."""
    rows = []
    for index in range(n):
        rng = np.random.default_rng((seed, index))
        quality = float(rng.uniform(0.75, 0.98))
        row: dict[str, Any] = {
            "case_id": f"case-{index:03d}",
            "n_mask_pixels": 200,
            "n_predicted_pixels": int(rng.integers(150, 320)),
            "dice": 0.75 * quality,
            **metrics(quality, rng),
        }
        for name, value in changes.items():
            row[name] = value * float(rng.uniform(0.97, 1.0))
        rows.append(row)
    return rows


def negative_rows(n: int, pixels: int) -> list[dict[str, Any]]:
    """Rows of `n` cases without a lesion, with `pixels` predicted in each."""
    row = {"n_mask_pixels": 0, "n_predicted_pixels": pixels, "dice": math.nan}
    row |= {"attention_min": 0.0, "attention_max": 1.0}
    return [row | {"case_id": f"neg-{i:03d}", "attention_std": 0.05 + 0.001 * i} for i in range(n)]


def summary_of(rows: list[dict[str, Any]], **more: float) -> dict[str, Any]:
    """Means over the positive rows, as evaluation gives them."""
    positive = [row for row in rows if row["n_mask_pixels"]]
    names = [name for name in positive[0] if name != "case_id"]
    summary: dict[str, Any] = {n: float(np.mean([row[n] for row in positive])) for n in names}
    summary["dice_positive"] = summary.pop("dice")
    counts = {"n_cases": len(rows), "n_positive": len(positive)}
    return summary | counts | {"n_empty": len(rows) - len(positive)} | more
