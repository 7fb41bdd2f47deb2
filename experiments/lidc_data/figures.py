"""The study's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from attnseg.reports.style import (
    BLUE,
    GREEN,
    GREY,
    LABEL,
    ORANGE,
    SMALL,
    VERMILION,
    new_figure,
    save_png,
    tidy,
)
from experiments.lidc_data.appearance import DISTANCES, SMALLEST
from experiments.lidc_data.cases import Floats, Lesion, Studied
from experiments.lidc_data.prior import ATLAS, heat_map
from experiments.lidc_data.tables import BINS, Line, bin_name, shift_profile
from experiments.lidc_data.visibility import SHIFTS


def draw_sizes(lines: Sequence[Line], lesions: Sequence[Lesion], path: Path) -> Path:
    """Histogram of diameters, and what hangs on which size."""
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    tidy(left, f"equivalent diameters of {len(lesions)} lesions")
    left.hist([lesion.diameter for lesion in lesions], np.arange(0, 56, 2), color=BLUE)
    left.set_xlabel("px at 512", fontsize=LABEL)
    left.set_ylabel("lesions", fontsize=LABEL)
    tidy(right, "what hangs on which size")
    names = [bin_name(low, high) for low, high in pairwise(BINS)]
    shares = {
        "of all lesions (sensitivity)": _share_of_lesions(lines, names),
        "of a case's mask, mean (dice_positive)": _pick(
            lines, "mean share of a case's mask", names
        ),
        "of all mask pixels (dice_global)": _pick(lines, "share of all mask pixels", names),
    }
    for index, (label, values) in enumerate(shares.items()):
        at = np.arange(len(names)) + 0.27 * (index - 1)
        right.bar(at, values, 0.25, label=label, color=(GREY, ORANGE, BLUE)[index])
    right.set_xticks(range(len(names)), names, fontsize=SMALL)
    right.legend(fontsize=SMALL, frameon=False)
    return save_png(figure, path)


def draw_visibility(lesions: Sequence[Lesion], path: Path) -> Path:
    """CNR of lesions, how often they beat a random place, and AUC by size."""
    figure = new_figure(13, 4)
    first, second, third = figure.subplots(1, 3)
    measured = [lesion for lesion in lesions if "beats" in lesion.values]
    tidy(first, "contrast-to-noise of lesions")
    first.hist([one.values["cnr"] for one in measured], np.arange(-3, 4.1, 0.25), color=BLUE)
    for limit in (0.5, 1.0):
        first.axvline(limit, color=VERMILION, linestyle=":", linewidth=1)
    first.set_xlabel("(lesion - ring) / sd of the ring, plane removed", fontsize=LABEL)
    tidy(second, "share of random lung places with less contrast")
    second.hist([one.values["beats"] for one in measured], np.linspace(0, 1, 21), color=GREEN)
    second.axhline(len(measured) / 20, color=GREY, linestyle=":", label="pure chance")
    second.legend(fontsize=SMALL, frameon=False)
    tidy(third, "AUC against random places, by size")
    kinds = {
        "beats": "ring filter, size and shape known",
        "beats_blob": "blob detector, size known",
        "observer": "learned local observer",
    }
    groups = list(pairwise(BINS))
    for (key, label), colour in zip(kinds.items(), (GREEN, BLUE, VERMILION), strict=True):
        means = [
            np.mean(
                [
                    one.values[key]
                    for one in measured
                    if low <= one.diameter < high and key in one.values
                ]
                or [np.nan]
            )
            for low, high in groups
        ]
        third.plot(range(len(groups)), means, marker="o", color=colour, label=label)
    third.axhline(0.5, color=GREY, linestyle=":")
    third.set_ylim(0.4, 1)
    third.set_xticks(range(len(groups)), [bin_name(*group) for group in groups], fontsize=SMALL)
    third.legend(fontsize=SMALL, frameon=False)
    return save_png(figure, path)


def draw_registration(lesions: Sequence[Lesion], path: Path) -> Path:
    """Mean CNR by shift of the mask."""
    figure = new_figure(6, 3.6)
    axes = figure.subplots()
    tidy(axes, f"mean CNR of {len(lesions)} lesions, mask moved off its place")
    for axis, colour, label in (("y", BLUE, "down"), ("x", ORANGE, "right")):
        axes.plot(
            SHIFTS,
            shift_profile(lesions, axis),
            marker="o",
            markersize=3,
            color=colour,
            label=label,
        )
    axes.axvline(0, color=GREY, linestyle=":")
    axes.set_xlabel("px", fontsize=LABEL)
    axes.legend(fontsize=SMALL, frameon=False)
    return save_png(figure, path)


def draw_heat_map(cases: Sequence[Studied], path: Path) -> Path:
    """Where lesions lie in the lungs' bounding box, mirrored."""
    figure = new_figure(5, 4.6)
    axes = figure.subplots()
    atlas = heat_map(cases, 16.0)
    margin = (atlas.shape[0] - ATLAS) // 2
    axes.imshow(atlas, cmap="inferno")
    corners = np.array([0, ATLAS, ATLAS, 0, 0]) + margin
    axes.plot(corners, np.roll(corners, 1)[[0, 1, 2, 3, 0]], color="white", linewidth=0.8)
    axes.set_title(
        "where lesions lie, in the frame of the lungs' box (white)", fontsize=LABEL, loc="left"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    return save_png(figure, path)


def draw_resolution(means: Mapping[str, float], grids: Sequence[int], path: Path) -> Path:
    """Dice of a perfect prediction by grid."""
    figure = new_figure(5.4, 3.4)
    axes = figure.subplots()
    tidy(axes, "Dice of a perfect prediction on a coarse grid")
    soft = [max(means[name] for name in means if name.startswith(f"soft_{g}_")) for g in grids]
    axes.plot(grids, soft, marker="o", color=GREEN, label="covered share, best threshold")
    axes.plot(
        grids, [means[f"hard_{g}"] for g in grids], marker="s", color=ORANGE, label="0/1 mask"
    )
    axes.set_xticks(grids)
    axes.set_xlabel("grid, px (stride = 512 / grid)", fontsize=LABEL)
    axes.legend(fontsize=SMALL, frameon=False)
    return save_png(figure, path)


def draw_edges(profiles: Mapping[str, tuple[Floats, int]], path: Path) -> Path:
    """Grey level by distance to the outline, from 0 right outside it to 1 at its highest."""
    figure = new_figure(6, 3.6)
    axes = figure.subplots()
    tidy(axes, f"grey level across the outline, lesions of {SMALLEST:g} px or more")
    for (name, (profile, count)), colour in zip(
        profiles.items(), (BLUE, ORANGE, GREEN), strict=False
    ):
        axes.plot(
            DISTANCES,
            (profile - profile[DISTANCES < 0][-1]) / np.ptp(profile[DISTANCES > -1]),
            marker="o",
            markersize=3,
            color=colour,
            label=f"{name} ({count})",
        )
    axes.axvline(0, color=GREY, linestyle=":")
    axes.set_xlabel("px inside the outline", fontsize=LABEL)
    axes.legend(fontsize=SMALL, frameon=False)
    return save_png(figure, path)


def _pick(lines: Sequence[Line], measure: str, names: Sequence[str]) -> list[float]:
    found = {line.subset: line.value for line in lines if line.measure == measure}
    return [found[name] for name in names]


def _share_of_lesions(lines: Sequence[Line], names: Sequence[str]) -> list[float]:
    counts = _pick(lines, "lesions", names)
    return [count / max(1, sum(counts)) for count in counts]
