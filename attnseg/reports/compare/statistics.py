"""Paired differences: bootstrap over patients, a signed-rank test, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

FEW_PATIENTS = 10  # below, a percentile interval is too narrow by far (Efron & Tibshirani, ch. 13)
FEWEST_TESTED = 6  # nonzero differences below which no signed-rank test can reach p < 0.05
_CELLS = 4_000_000  # resampled indices held at a time


def bootstrap_interval(
    values: Values,
    patients: Sequence[str],
    *,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over cases, patients resampled whole.

    A resample draws as many patients as there are, with replacement, and takes the mean over all
    their cases, so that cases of one patient stay together (the cluster bootstrap; Davison &
    Hinkley 1997, 3.8). The draws depend on `seed` and the number of patients alone: swapping the
    two sides of a difference mirrors the interval exactly.

    Args:
        values: (N,) one a case, finite.
        patients: N ids.
        confidence: share of the resampled means inside.
        n_resamples: how many.
        seed: of the draws.

    Returns:
        Low and high end; NaN for fewer than two patients.
    """
    names, place = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < 2:
        return math.nan, math.nan
    sums = np.bincount(place, weights=values, minlength=len(names))
    counts = np.bincount(place, minlength=len(names))
    rng = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    step = max(1, _CELLS // len(names))
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        drawn = rng.integers(0, len(names), size=(size, len(names)))
        means[start : start + size] = sums[drawn].sum(1) / counts[drawn].sum(1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, (tail, 1.0 - tail))
    return float(low), float(high)


def patient_means(values: Values, patients: Sequence[str]) -> Values:
    """The mean of each patient's cases, patients in the order of their ids: (N,) -> (P,)."""
    names, place = np.unique(np.asarray(patients), return_inverse=True)
    sums = np.bincount(place, weights=values, minlength=len(names))
    means: Values = sums / np.bincount(place, minlength=len(names))
    return means


def signed_rank(values: Values) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that paired differences centre on 0.

    SciPy's, exact where there are few values and no ties; zero differences are left out
    (Wilcoxon 1945), and where all are zero nothing speaks against 0: p = 1.

    Args:
        values: (N,) differences, finite and independent: of patients (`patient_means`), not of
            cases, of which one patient may have several.
    """
    from scipy.stats import wilcoxon

    if not np.any(values):
        return 1.0
    return float(wilcoxon(values[values != 0.0]).pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): the family-wise error of all tests is kept.

    Args:
        ps: p values in any order; NaN (no test) stays NaN and counts for nothing.

    Returns:
        Corrected p values in the same order, at most 1 and at least as large.
    """
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    corrected = [math.nan] * len(ps)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * ps[index]))
        corrected[index] = largest
    return corrected


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) of the finite values; NaN where undefined."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if not len(finite):
        return math.nan, math.nan
    return float(finite.mean()), float(finite.std(ddof=1)) if len(finite) > 1 else math.nan
