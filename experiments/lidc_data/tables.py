"""From measured cases to lines of results.csv: (question, measure, subset, value, n)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from experiments.lidc_data.cases import Floats, Lesion, Studied
from experiments.lidc_data.lungs import bounding_box
from experiments.lidc_data.visibility import SHIFTS

BINS = (0.0, 8.0, 10.0, 14.0, 20.0, 30.0, float("inf"))
"""Limits of equivalent diameters, px at 512."""

Subset = tuple[str, Callable[[Lesion], bool]]


@dataclass(frozen=True)
class Line:
    """One figure of the study."""

    question: str
    measure: str
    subset: str
    value: float
    n: int


def bin_name(low: float, high: float) -> str:
    """A range of diameters in words."""
    return f"above {low:g} px" if np.isinf(high) else f"{low:g}-{high:g} px"


def subsets() -> list[Subset]:
    """The groups of lesions that everything is measured on."""

    def between(name: str, low: float, high: float) -> Callable[[Lesion], bool]:
        return lambda lesion: low <= lesion.ratings.get(name, float("nan")) < high

    def sized(low: float, high: float) -> Callable[[Lesion], bool]:
        return lambda lesion: low <= lesion.diameter < high

    rated = [
        (f"{name} {low:g} to {high:g}", between(name, low, high))
        for name, edges in {
            "subtlety": (1, 2, 3, 4, 4.75, 5.01),
            "malignancy": (1, 2, 3, 4, 5.01),
            "texture": (1, 3, 4, 5, 5.01),
            "n_annotations": (1, 2, 3, 4, 99),
        }.items()
        for low, high in pairwise(edges)
    ]
    return [
        ("all", lambda lesion: True),
        *((bin_name(low, high), sized(low, high)) for low, high in pairwise(BINS)),
        ("in the lung fields", lambda lesion: lesion.in_lung >= 0.5),
        ("outside the lung fields", lambda lesion: lesion.in_lung < 0.5),
        *rated,
    ]


def sizes(cases: Sequence[Studied]) -> list[Line]:
    """How large lesions are, and what share of each kind of Dice hangs on which size."""
    positive = [studied for studied in cases if studied.lesions]
    lesions = [lesion for studied in positive for lesion in studied.lesions]
    lines = [
        Line("sizes", "cases", "all", len(cases), len(cases)),
        Line("sizes", "cases", "with a lesion", len(positive), len(cases)),
        Line("sizes", "lesions", "all", len(lesions), len(positive)),
    ]
    per_case = {
        "lesions per positive case": [len(studied.lesions) for studied in positive],
        "mask px per positive case": [int(studied.mask.sum()) for studied in positive],
        "share of the mask in its biggest lesion": [
            max(lesion.n_pixels for lesion in studied.lesions) / studied.mask.sum()
            for studied in positive
        ],
    }
    per_lesion = {
        "diameter px": [lesion.diameter for lesion in lesions],
        "diameter mm": [lesion.diameter_mm for lesion in lesions],
        "area px": [lesion.n_pixels for lesion in lesions],
    }
    for measure, values in (per_case | per_lesion).items():
        lines += _distribution("sizes", measure, "all", np.array(values, dtype=float))
    for low, high in pairwise(BINS):
        chosen = [lesion for lesion in lesions if low <= lesion.diameter < high]
        of_case = [
            sum(lesion.n_pixels for lesion in studied.lesions if low <= lesion.diameter < high)
            / studied.mask.sum()
            for studied in positive
        ]
        pixels = sum(lesion.n_pixels for lesion in chosen)
        name, total = bin_name(low, high), sum(lesion.n_pixels for lesion in lesions)
        lines += [
            Line("sizes", "lesions", name, len(chosen), len(lesions)),
            Line("sizes", "share of all mask pixels", name, pixels / max(1, total), len(lesions)),
            Line(
                "sizes", "mean share of a case's mask", name, float(np.mean(of_case)), len(of_case)
            ),
        ]
    return lines


def ratings(lesions: Sequence[Lesion]) -> list[Line]:
    """How ratings hang together with size and contrast (Spearman's rank correlation)."""
    from scipy.stats import spearmanr

    lines = []
    for name in ("subtlety", "malignancy", "texture", "n_annotations", "diameter"):
        known = [
            (lesion.ratings.get(name, lesion.diameter), lesion)
            for lesion in lesions
            if (name in lesion.ratings or name == "diameter") and "beats" in lesion.values
        ]
        if len(known) < 10:
            continue
        rating = np.array([value for value, _ in known])
        if name != "diameter":
            lines += _distribution("ratings", name, "all", rating)
        others = {
            "beats": [lesion.values["beats"] for _, lesion in known],
            "diameter": [lesion.diameter for _, lesion in known],
        }
        for other, values in others.items():
            if other != name:
                r = float(spearmanr(rating, values).statistic)
                lines.append(Line("ratings", f"Spearman {name} with {other}", "all", r, len(known)))
    return lines


def visibility(lesions: Sequence[Lesion]) -> list[Line]:
    """Contrast against chance, by size, place and rating."""
    lines = []
    measured = [lesion for lesion in lesions if "beats" in lesion.values]
    for name, belongs in subsets():
        values = [lesion.values for lesion in measured if belongs(lesion)]
        if not values:
            continue
        got = {key: np.array([value[key] for value in values]) for key in values[0]}
        excess = got["contrast"] - got["chance_contrast"]
        summary = {
            "CNR, median": np.median(got["cnr"]),
            "share CNR < 0": (got["cnr"] < 0).mean(),
            "share CNR > 0.5": (got["cnr"] > 0.5).mean(),
            "share CNR > 1": (got["cnr"] > 1).mean(),
            "contrast above chance, grey levels": excess.mean(),
            "contrast above chance, sd over lesions": excess.std(),
            "chance sd, grey levels": got["chance_sd"].mean(),
            "d'": (excess / got["chance_sd"].clip(1e-6)).mean(),
            "AUC, ring filter": got["beats"].mean(),
            "AUC, blob detector": got["beats_blob"].mean(),
            "share that beats 90 % of places": (got["beats"] > 0.90).mean(),
            "share that beats 99 % of places": (got["beats"] > 0.99).mean(),
            "visible share, 1 - 2 x share below chance's median": 1
            - 2 * (got["beats"] < 0.5).mean(),
            "blobs above it, median": np.median(got["blobs_above"]),
            "share with at most 1 blob above it": (got["blobs_above"] <= 1).mean(),
        }
        if "observer" in got:
            summary["AUC, learned observer"] = got["observer"].mean()
            summary["share that beats 99 % of places, observer"] = (got["observer"] > 0.99).mean()
        lines += [
            Line("visibility", measure, name, float(value), len(values))
            for measure, value in summary.items()
        ]
    return lines


def ceilings(cases: Sequence[Studied]) -> list[Line]:
    """What a perfect outline of some lesions and nothing else would score."""
    criteria: dict[str, Callable[[Lesion], bool]] = {
        "CNR > 0.5": lambda lesion: lesion.values.get("cnr", -1.0) > 0.5,
        "CNR > 1": lambda lesion: lesion.values.get("cnr", -1.0) > 1,
        "beats 90 % of places": lambda lesion: lesion.values.get("beats", 0.0) > 0.9,
        "beats 99 % of places": lambda lesion: lesion.values.get("beats", 0.0) > 0.99,
        "14 px or more": lambda lesion: lesion.diameter >= 14,
        "20 px or more": lambda lesion: lesion.diameter >= 20,
        "subtlety 4 or more": lambda lesion: lesion.ratings.get("subtlety", 0.0) >= 4,
        "3 annotations or more": lambda lesion: lesion.ratings.get("n_annotations", 0.0) >= 3,
        "in the lung fields": lambda lesion: lesion.in_lung >= 0.5,
    }
    positive = [studied for studied in cases if studied.lesions]
    lines = []
    for name, found in criteria.items():
        dice, hits, pixels = [], [], [0, 0]
        for studied in positive:
            area = sum(lesion.n_pixels for lesion in studied.lesions if found(lesion))
            total = sum(lesion.n_pixels for lesion in studied.lesions)
            dice.append(2 * area / (area + total))
            hits += [found(lesion) for lesion in studied.lesions]
            pixels = [pixels[0] + area, pixels[1] + total]
        values = {
            "dice_positive": float(np.mean(dice)),
            "dice_global": 2 * pixels[0] / max(1, sum(pixels)),
            "lesion sensitivity": float(np.mean(hits)) if hits else float("nan"),
            "pointing_game": float(np.mean([value > 0 for value in dice])),
        }
        lines += [Line("ceiling", key, name, value, len(positive)) for key, value in values.items()]
    return lines


def registration(cases: Sequence[Studied]) -> list[Line]:
    """Mean CNR by how far the mask is moved, for all lesions and by height in the image."""
    parts: dict[str, Callable[[Studied, Lesion], bool]] = {
        "all": lambda studied, lesion: True,
        "upper third": lambda studied, lesion: _height(studied, lesion) < 1 / 3,
        "middle third": lambda studied, lesion: 1 / 3 <= _height(studied, lesion) < 2 / 3,
        "lower third": lambda studied, lesion: _height(studied, lesion) >= 2 / 3,
    }
    lines = []
    for part, belongs in parts.items():
        chosen = [one for studied in cases for one in studied.lesions if belongs(studied, one)]
        if not chosen:
            continue
        for axis in "yx":
            profile = shift_profile(chosen, axis)
            lines += [
                Line(
                    "registration",
                    f"mean CNR, shift in {axis}",
                    f"{part}, {shift} px",
                    value,
                    len(chosen),
                )
                for shift, value in zip(SHIFTS, profile.tolist(), strict=True)
            ]
            peak = _centre(profile)
            lines.append(Line("registration", f"peak in {axis}, px", part, peak, len(chosen)))
    return lines


def shift_profile(lesions: Sequence[Lesion], axis: str) -> Floats:
    """Mean CNR at each of `SHIFTS`."""
    rows = [[lesion.values[f"shift_{axis}_{n}"] for n in SHIFTS] for lesion in lesions]
    profile: Floats = np.array(rows).mean(0)
    return profile


def _centre(profile: Floats) -> float:
    """The middle of the range, around the top, where a profile is above half its height."""
    fine = np.arange(-12.0, 12.05, 0.1)
    values = np.interp(fine, SHIFTS, profile)
    low = values < (values.max() + values.min()) / 2
    top = int(values.argmax())
    before, after = np.nonzero(low[:top])[0], np.nonzero(low[top:])[0]
    first = before[-1] + 1 if len(before) else 0
    last = top + after[0] - 1 if len(after) else len(fine) - 1
    return float(fine[first] + fine[last]) / 2


def _height(studied: Studied, lesion: Lesion) -> float:
    return float(lesion.centre[0] / studied.mask.shape[0])


def _distribution(question: str, measure: str, subset: str, values: Floats) -> list[Line]:
    known = values[np.isfinite(values)]
    if not len(known):
        return []
    named = {f"{measure}, mean": float(known.mean())}
    for percent in (5, 25, 50, 75, 95):
        named[f"{measure}, percentile {percent}"] = float(np.percentile(known, percent))
    return [Line(question, name, subset, value, len(known)) for name, value in named.items()]


def lung_lines(cases: Sequence[Studied]) -> list[Line]:
    """What a lung mask would keep, and where the rest lies."""
    share = np.array([float(studied.lungs.mean()) for studied in cases])
    lesions = [lesion for studied in cases for lesion in studied.lesions]
    inside = np.array([lesion.in_lung for lesion in lesions])
    area = np.array([lesion.n_pixels for lesion in lesions])
    kept = float((inside * area).sum() / area.sum())
    values = {
        "share of the image, median": (float(np.median(share)), len(cases)),
        "cases below 15 % of the image": (float((share < 0.15).sum()), len(cases)),
        "share of nodule pixels inside": (kept, len(lesions)),
        "lesions at least half inside": (float((inside >= 0.5).mean()), len(lesions)),
        "lesions wholly outside": (float((inside == 0).mean()), len(lesions)),
    }
    lines = [Line("lungs", name, "all", value, n) for name, (value, n) in values.items()]
    places = [
        _place(studied, lesion)
        for studied in cases
        for lesion in studied.lesions
        if lesion.in_lung < 0.5
    ]
    for place in ("below or behind the diaphragm", "heart or mediastinum", "elsewhere"):
        count = float(places.count(place))
        lines.append(Line("lungs", "lesions mostly outside", place, count, len(places)))
    for side, beyond in _beyond_the_box(cases).items():
        name = "lesions beyond the lungs' bounding box by more than 5 % of its height"
        lines.append(Line("lungs", name, side, float(beyond), len(lesions)))
    return lines


def _beyond_the_box(cases: Sequence[Studied]) -> dict[str, int]:
    """Lesions above and below the lungs: a mask turned or shifted would have many."""
    counts = {"above": 0, "below": 0}
    for studied in cases:
        top, _, height, _ = bounding_box(studied.lungs)
        for lesion in studied.lesions:
            row = (lesion.centre[0] - top) / height
            counts["above"] += row < -0.05
            counts["below"] += row > 1.05
    return counts


def _place(studied: Studied, lesion: Lesion) -> str:
    """Where a lesion outside the lung fields lies, judged by their bounding box."""
    top, left, height, width = bounding_box(studied.lungs)
    row, column = (lesion.centre[0] - top) / height, (lesion.centre[1] - left) / width
    below = not studied.lungs[int(lesion.centre[0]) :, int(lesion.centre[1])].any()
    if 0.3 < column < 0.7 and 0 <= row <= 1:
        return "heart or mediastinum"
    return "below or behind the diaphragm" if row > 0.5 and below else "elsewhere"
