"""Every definition once more, in plain NumPy and loops, one case at a time.

Written from DESIGN.md and the docstrings, sharing no code with attnseg.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

NAN = float("nan")
GRID = [0.001, 0.002, 0.005, 0.01, *(i / 50 for i in range(1, 50)), 0.99, 0.995, 0.998, 0.999]
RATES = (0.125, 0.25, 0.5, 1, 2, 4, 8)


class Example(NamedTuple):
    """A case: three (H, W) float32 maps, mm per pixel (NaN where unknown), an id."""

    attention: np.ndarray
    probability: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, float]
    case_id: str

    @property
    def truth(self) -> np.ndarray:
        return self.mask.astype(bool)


# --- alignment ------------------------------------------------------------------------------


def top10(values: np.ndarray) -> np.ndarray:
    return values > np.percentile(values.astype(np.float64), 90)


def share(of: np.ndarray, inside: np.ndarray) -> float:
    return float((of & inside).sum() / of.sum()) if of.any() else 0.0


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (one.astype(np.float64).ravel() for one in (a, b))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def centre(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    rows, columns = np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij")
    if values.sum() == 0:
        return np.array([rows.mean(), columns.mean()])
    return np.array([np.average(rows, weights=values), np.average(columns, weights=values)])


def peak_points(values: np.ndarray) -> np.ndarray:
    if np.ptp(values) == 0:
        height, width = values.shape
        rows = sorted({(height - 1) // 2, height // 2})
        columns = sorted({(width - 1) // 2, width // 2})
        return np.array([(r, c) for r in rows for c in columns])
    return np.argwhere(values == values.max())


def peak_distance(values: np.ndarray, mask: np.ndarray, scale: np.ndarray) -> float:
    to_mask = distance_transform_edt(~mask, sampling=scale)
    return float(np.mean([to_mask[tuple(point)] for point in peak_points(values)]))


def alignment(case: Example) -> dict[str, float]:
    a, p, g = case.attention.astype(np.float64), case.probability, case.truth
    values = {"attention_min": a.min(), "attention_max": a.max(), "attention_std": a.std()}
    if not g.any():
        return values
    px, mm = 512 / np.array(g.shape), np.array(case.spacing)
    known = np.isfinite(mm).all()
    flat = np.ptp(a) == 0
    at_peak = peak_points(a)
    values |= {
        "attention_gt_overlap": share(g, top10(a)),
        "seg_gt_overlap": share(g, top10(p)),
        "attention_seg_overlap": share(top10(a), top10(p)),
        "attention_gt_corr": pearson(a, g),
        "seg_gt_corr": pearson(p, g),
        "attention_seg_corr": pearson(a, p),
        "pointing_game": 0.0 if flat else float(np.mean([g[tuple(point)] for point in at_peak])),
        "energy_inside": a[g].sum() / a.sum() if a.sum() else 0.0,
        "area_baseline": g.mean(),
        "soft_iou": np.minimum(a, g).sum() / np.maximum(a, g).sum(),
        "nss": 0.0 if flat else ((a - a.mean()) / a.std())[g].mean(),
    }
    for unit, scale in (("", px), ("_mm", mm)):
        measured = known or not unit
        apart = [np.linalg.norm((centre(one) - centre(g)) * scale) for one in (a, p)]
        values["attention_gt_distance" + unit] = apart[0] if measured else NAN
        values["seg_gt_distance" + unit] = apart[1] if measured else NAN
        pointing = peak_distance(a, g, scale) if measured else NAN
        values["pointing_game_distance" + unit] = pointing
    return values


# --- segmentation ---------------------------------------------------------------------------


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))


def mean(values: list[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return float(np.mean(kept)) if kept else NAN


def mean_dice(cases: list[Example], threshold: float) -> float:
    limit = np.float32(threshold)
    return mean([dice(c.probability > limit, c.truth) for c in cases if c.truth.any()])


def best_threshold(cases: list[Example], extra: float | None = None) -> float:
    if not any(case.truth.any() for case in cases):
        return 0.5
    grid = sorted({*GRID, *([] if extra is None else [extra])})
    scores = {t: mean_dice(cases, t) for t in grid}
    top = max(scores.values())
    tied = [t for t in grid if scores[t] > top - 1e-9]
    return min(tied, key=lambda t: (abs(t - 0.5), t))


def segmentation(cases: list[Example], threshold: float | None) -> dict[str, float]:
    best = best_threshold(cases, threshold)
    at = best if threshold is None else threshold
    both = [(case.probability > np.float32(at), case.truth) for case in cases]
    positive = [(p, g) for p, g in both if g.any()]
    pooled = sum(p.sum() + g.sum() for p, g in both)
    return {
        "threshold": at,
        "best_threshold": best,
        "dice_positive": mean_dice(cases, at),
        "dice_positive_at_best_threshold": mean_dice(cases, best),
        "dice_global": 2 * sum((p & g).sum() for p, g in both) / pooled if pooled else NAN,
        "iou_positive": mean([(p & g).sum() / (p | g).sum() for p, g in positive]),
        "false_positive_pixels_per_negative": mean([p.sum() for p, g in both if not g.any()]),
    }


def dice_original(cases: list[Example]) -> float:
    ordered = sorted(cases, key=lambda case: case.case_id)
    scores = []
    for start in range(0, len(ordered), 2):
        batch = ordered[start : start + 2]
        p = np.concatenate([case.probability.ravel() for case in batch]).astype(np.float64)
        y = np.concatenate([case.mask.ravel() for case in batch]).astype(np.float64)
        scores.append((2 * (p * y).sum() + 1e-7) / (p.sum() + y.sum() + 1e-7))
    return mean(scores)


def inner_edge(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~core


def hd95(predicted: np.ndarray, truth: np.ndarray, scale: np.ndarray) -> float:
    if not truth.any():
        return NAN
    if not predicted.any():
        return float(np.linalg.norm(np.array(truth.shape) * scale))
    edges = inner_edge(predicted), inner_edge(truth)
    to_predicted, to_truth = (distance_transform_edt(~edge, sampling=scale) for edge in edges)
    directed = to_truth[edges[0]], to_predicted[edges[1]]
    return float(max(np.percentile(distances, 95) for distances in directed))


def surface(cases: list[Example], threshold: float) -> dict[str, float]:
    both = [(case.probability > np.float32(threshold), case.truth) for case in cases]
    in_mm = [
        hd95(*pair, np.array(case.spacing)) if np.isfinite(case.spacing).all() else NAN
        for pair, case in zip(both, cases, strict=True)
    ]
    return {
        "hd95": mean([hd95(p, g, 512 / np.array(g.shape)) for p, g in both]),
        "hd95_mm": mean(in_mm),
        "n_empty_predictions": sum(bool(g.any() and not p.any()) for p, g in both),
    }


# --- lesions --------------------------------------------------------------------------------


def components(mask: np.ndarray) -> list[frozenset[tuple[int, int]]]:
    """8-connected components by flood fill."""
    left = {(int(r), int(c)) for r, c in np.argwhere(mask)}
    found = []
    while left:
        front, region = [left.pop()], set()
        while front:
            row, column = front.pop()
            region.add((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            front.extend(near)
        found.append(frozenset(region))
    return found


def lesions(cases: list[Example], threshold: float, min_share: float = 0.1) -> dict[str, float]:
    best, sizes_px, sizes_mm, found, wrong, invented = [], [], [], [], [], []
    for case in cases:
        peak_of = lambda region, c=case: max(float(c.probability[at]) for at in region)  # noqa: E731
        candidates: list[tuple[float, frozenset[tuple[int, int]], bool]] = []
        for k in range(6):
            for region in components(case.probability > np.float32(threshold / 2**k)):
                if not any(region >= earlier for _, earlier, _ in candidates):
                    candidates.append((peak_of(region), region, k == 0))
        hit_any = set()
        for lesion in components(case.truth):
            hits = [
                (score, top)
                for score, region, top in candidates
                if region & lesion and len(region & lesion) >= min_share * len(region)
            ]
            hit_any |= {
                r for _, r, _ in candidates if r & lesion and len(r & lesion) >= min_share * len(r)
            }
            best.append(max((score for score, _ in hits), default=-1.0))
            found.append(any(top for _, top in hits))
            area = len(lesion)
            sizes_px.append(math.sqrt(4 / math.pi * area * 512**2 / case.mask.size))
            sizes_mm.append(math.sqrt(4 / math.pi * area * case.spacing[0] * case.spacing[1]))
        wrong += [score for score, region, _ in candidates if region not in hit_any]
        if not case.truth.any():
            invented.append(sum(top for _, _, top in candidates))
    values: dict[str, float] = {}
    for rate in RATES:
        sensitivities = [0.0]
        for bar in [0.0, *wrong, *best, 2.0]:  # every threshold that can make a difference
            for above in (lambda s, b=bar: s > b, lambda s, b=bar: s >= b > 0):
                if sum(above(score) for score in wrong) <= rate * len(cases) and best:
                    sensitivities.append(np.mean([above(score) for score in best]))
        values[f"froc_sensitivity_at_{rate:g}"] = float(max(sensitivities)) if best else NAN
    values["froc_mean"] = float(np.mean(list(values.values())))
    values["false_positive_lesions_per_negative"] = mean(invented)
    bins = {
        "": [True] * len(found),
        "_below_10mm": [s < 10 for s in sizes_mm],
        "_10_to_20mm": [10 <= s <= 20 for s in sizes_mm],
        "_above_20mm": [s > 20 for s in sizes_mm],
        "_below_16px": [s < 16 for s in sizes_px],
        "_16_to_32px": [16 <= s <= 32 for s in sizes_px],
        "_above_32px": [s > 32 for s in sizes_px],
    }
    for name, chosen in bins.items():
        values["n_lesions" + name] = sum(chosen)
        values["lesion_sensitivity" + name] = mean(
            [f for f, c in zip(found, chosen, strict=True) if c]
        )
    return values


# --- all ------------------------------------------------------------------------------------


def summary(cases: list[Example], threshold: float | None, *, hd: bool) -> dict[str, float]:
    """What `ValidationMetrics` should compute."""
    rows = [alignment(case) for case in cases]
    positive = [case for case in cases if case.truth.any()]
    operating = 0.5 if threshold is None else threshold
    names = set(alignment(_any_positive()))
    return {
        **{name: mean([row[name] for row in rows if name in row]) for name in names},
        "n_cases": len(cases),
        "n_positive": len(positive),
        "n_empty": len(cases) - len(positive),
        "n_with_spacing": sum(bool(np.isfinite(case.spacing).all()) for case in positive),
        **segmentation(cases, threshold),
        "dice_original": dice_original(cases),
        **(surface(cases, operating) if hd else {}),
        **lesions(cases, operating),
    }


def _any_positive() -> Example:
    one = np.eye(4, dtype=np.float32)
    return Example(one, one, one, (1.0, 1.0), "any")
