"""Attention against segmentation: a mark a case, and a mark a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from attnseg.reports.cases import ATTENTION_HITS, FOUND_DICE
from attnseg.reports.compare.look import looks
from attnseg.reports.compare.pairing import case_values
from attnseg.reports.compare.study import Study
from attnseg.reports.style import (
    GREY,
    LABEL,
    SMALL,
    TARGETS,
    new_figure,
    save_png,
    shorten,
    tidy,
)

ATTENTION, CASE_DICE, RUN_DICE = "attention_gt_overlap", "dice", "dice_positive"


def draw_scatter(study: Study, path: Path) -> Path | None:
    """Draw per-case (mean over a group's seeds) and per-run scatter plots; None without points.

    Only cases with a lesion have both values.
    """
    cases = {group.label: _case_points(study, group.label) for group in study.groups}
    runs = {
        group.label: [
            (x, y)
            for run in group.counted
            if math.isfinite(x := run.metric(ATTENTION))
            and math.isfinite(y := run.metric(RUN_DICE))
        ]
        for group in study.groups
    }
    if not any(cases.values()) and not any(runs.values()):
        return None
    figure = new_figure(12.6, 5.0 + 0.17 * math.ceil(len(study.groups) / 2))
    left, right = figure.subplots(1, 2)
    tidy(left, f"every case with a lesion, {study.split} split (mean over seeds)")
    tidy(right, f"every run, {study.split} split")
    for label, look in looks(study).items():
        many = len(cases[label]) > 60
        style = {"color": look.colour, "marker": look.mark, "clip_on": False, "linestyle": ""}
        _marks(left, cases[label], markersize=3.5 if many else 5, alpha=0.6, **style)
        _marks(right, runs[label], markersize=8, alpha=0.9, markeredgecolor="white", **style)
    left.axvline(ATTENTION_HITS, color=GREY, linewidth=0.8, linestyle=":")
    left.axhline(FOUND_DICE, color=GREY, linewidth=0.8, linestyle=":")
    right.axvline(TARGETS[ATTENTION].wanted, color=GREY, linewidth=0.8, linestyle=":")
    right.axhline(TARGETS[RUN_DICE].wanted, color=GREY, linewidth=0.8, linestyle=":")
    for axes, name in ((left, "Dice"), (right, RUN_DICE)):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_xlabel(f"{ATTENTION}: share of the lesion in attention's top 10 %", fontsize=LABEL)
        axes.set_ylabel(name, fontsize=LABEL)
    _legend(figure, study)
    return save_png(figure, path)


def _case_points(study: Study, label: str) -> list[tuple[float, float]]:
    group = next(group for group in study.groups if group.label == label)
    attention, dice = case_values(group, ATTENTION), case_values(group, CASE_DICE)
    return [(attention[case_id], dice[case_id]) for case_id in attention if case_id in dice]


def _marks(axes: Any, points: list[tuple[float, float]], **style: Any) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), **style)


def _legend(figure: Any, study: Study) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=k.colour, marker=k.mark, linestyle="", label=shorten(label, 70))
        for label, k in looks(study).items()
    ]
    figure.legend(
        handles=handles, loc="outside lower left", ncols=2, fontsize=SMALL + 0.5, frameon=False
    )
