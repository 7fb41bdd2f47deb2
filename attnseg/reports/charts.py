"""All cases of a data set in one picture: attention against segmentation, and distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnseg.reports.cases import (
    ATTENTION_HITS,
    CLASSES,
    FOUND_DICE,
    Row,
    classify_case,
    positives,
    values_of,
)
from attnseg.reports.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LABEL,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    TARGETS,
    VERMILION,
    new_figure,
    save_png,
    tidy,
)

# A marker beside each colour: the classes are told apart in print and by every eye.
_MARKS = {
    "aligned": (GREEN, "o"),
    "follows_wrong_attention": (VERMILION, "X"),
    "misaligned_attention": (ORANGE, "v"),
    "found_without_attention": (SKY, "^"),
    "ignores_attention": (BLUE, "s"),
    "over_predicted": (PURPLE, "P"),
    "empty_prediction": (BLACK, "x"),
    "collapsed_map": (GREY, "d"),
}


def draw_case_charts(cases: Sequence[Row], path: Path) -> Path:
    """Draw attention_gt_overlap against Dice, and the attention's distances, of positive cases.

    Args:
        cases: rows as `classify_case` takes them.
        path: the PNG.

    Returns:
        path.
    """
    shown = positives(cases)
    figure = new_figure(12.6, 5.4)
    left, right = figure.subplots(1, 2)
    _draw_scatter(left, shown)
    _draw_distances(right, shown)
    return save_png(figure, path)


def _draw_scatter(axes: Any, cases: Sequence[Row]) -> None:
    tidy(axes, "attention against segmentation, a mark a case with a lesion")
    axes.axvline(ATTENTION_HITS, color=GREY, linewidth=0.8, linestyle=":")
    axes.axhline(FOUND_DICE, color=GREY, linewidth=0.8, linestyle=":")
    for code, (colour, marker) in _MARKS.items():
        rows = [values_of(row) for row in cases if classify_case(row) == code]
        if rows:
            axes.scatter(
                [value("attention_gt_overlap") for value in rows],
                [value("dice") for value in rows],
                color=colour,
                marker=marker,
                s=34,
                alpha=0.8,
                linewidths=0.6 if marker != "x" else 1.4,
                clip_on=False,
                zorder=3,
                label=f"{CLASSES[code]} ({len(rows)})",
            )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xlabel(
        "attention_gt_overlap: share of the lesion in attention's top 10 %", fontsize=LABEL
    )
    axes.set_ylabel("Dice", fontsize=LABEL)
    if axes.collections:
        _legend(axes)


def _draw_distances(axes: Any, cases: Sequence[Row]) -> None:
    tidy(axes, "how far attention is from the lesion")
    named = (
        ("attention_gt_distance", "centre of mass to the lesion's", BLUE, "stepfilled"),
        ("pointing_game_distance", "peak to the nearest lesion pixel", VERMILION, "step"),
    )
    known = {
        name: [v for row in cases if math.isfinite(v := values_of(row)(name))] for name, *_ in named
    }
    top = max((value for values in known.values() for value in values), default=1.0)
    edges = [index * max(top, 1.0) / 20 for index in range(21)]
    for name, label, colour, kind in named:
        if known[name]:
            axes.hist(known[name], edges, color=colour, alpha=0.7, label=label, histtype=kind)
    wanted = TARGETS["attention_gt_distance"].wanted
    axes.axvline(
        wanted, color=BLUE, linestyle=":", linewidth=1.2, label=f"wanted: below {wanted:.0f}"
    )
    axes.set_xlim(left=0)
    axes.set_xlabel("px at 512 x 512", fontsize=LABEL)
    axes.set_ylabel("cases", fontsize=LABEL)
    _legend(axes)


def _legend(axes: Any) -> None:
    """Below the chart, where no mark can be under it."""
    place = {"loc": "upper left", "bbox_to_anchor": (0, -0.13)}
    axes.legend(fontsize=SMALL, frameon=False, **place)
