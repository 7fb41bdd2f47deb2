"""Intervals, tests and corrections against independent references and the laws they obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attnseg.reports.compare.statistics import (
    bootstrap_interval,
    holm,
    mean_sd,
    patient_means,
    signed_rank,
)

VALUES = st.lists(
    st.floats(-1, 1, allow_subnormal=False).map(lambda x: round(x, 6)), min_size=2, max_size=25
)


def interval(values: list[float], patients: list[str] | None = None, **options: float):
    names = patients or [f"p{i}" for i in range(len(values))]
    return bootstrap_interval(np.array(values), names, **{"n_resamples": 500, **options})


def test_interval_is_scipys_percentile_bootstrap_for_one_case_a_patient() -> None:
    values = np.random.default_rng(0).normal(0.1, 0.3, size=40)
    ours = interval(list(values), n_resamples=20_000)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert ours == pytest.approx((reference.low, reference.high), abs=0.006)


def test_interval_of_two_patients_is_known_exactly() -> None:
    # Of two patients a resample is (a, a), (a, b), (b, a) or (b, b): the means 0, 2/3 of ten, 10.
    low, high = interval([0.0, 10.0, 10.0], ["a", "b", "b"], n_resamples=4000)
    assert (low, high) == (0.0, 10.0)
    middle = interval([0.0, 10.0, 10.0], ["a", "b", "b"], n_resamples=4000, confidence=0.3)
    assert middle == pytest.approx((20 / 3, 20 / 3))


def test_cases_of_one_patient_stay_together() -> None:
    rng = np.random.default_rng(1)
    patients = [f"p{i // 10}" for i in range(100)]
    values = list(np.repeat(rng.normal(size=10), 10))
    together = interval(values, patients)
    apart = interval(values)
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])


@settings(max_examples=40, deadline=None)
@given(values=VALUES)
def test_swapping_the_sides_mirrors_the_interval(values: list[float]) -> None:
    low, high = interval(values)
    assert interval([-v for v in values]) == pytest.approx((-high, -low), abs=1e-12)
    assert signed_rank(np.array(values)) == pytest.approx(signed_rank(-np.array(values)))


@settings(max_examples=40, deadline=None)
@given(values=VALUES, data=st.data())
def test_order_of_cases_does_not_matter(values: list[float], data: st.DataObject) -> None:
    names = [f"p{i // 2}" for i in range(len(values))]
    order = data.draw(st.permutations(range(len(values))))
    if len(set(names)) > 1:
        shuffled = interval([values[i] for i in order], [names[i] for i in order])
        assert shuffled == pytest.approx(interval(values, names), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(values=VALUES)
def test_the_interval_lies_within_the_data_and_grows_with_confidence(values: list[float]) -> None:
    narrow, wide = interval(values, confidence=0.5), interval(values, confidence=0.99)
    tiny = 1e-12
    assert min(values) - tiny <= wide[0] <= narrow[0] + tiny
    assert narrow[1] - tiny <= wide[1] <= max(values) + tiny


def test_one_patient_has_no_interval() -> None:
    assert all(math.isnan(end) for end in interval([0.1, 0.2], ["a", "a"]))


def test_signed_rank_against_a_count_of_all_signs() -> None:
    values = np.array([0.3, -0.1, 0.5, 0.7, 0.2, 0.9])
    ranks = stats.rankdata(np.abs(values))
    observed = ranks[values > 0].sum()
    sums = [
        sum(r for k, r in enumerate(ranks) if signs >> k & 1) for signs in range(2 ** len(values))
    ]
    upper = np.mean([s >= observed for s in sums])
    assert signed_rank(values) == pytest.approx(min(1.0, 2 * upper))


def test_no_difference_at_all_is_no_evidence() -> None:
    assert signed_rank(np.zeros(9)) == 1.0
    assert interval([0.0] * 9) == (0.0, 0.0)


def test_patient_means_by_hand() -> None:
    means = patient_means(np.array([1.0, 5.0, 3.0, 2.0]), ["b", "a", "b", "c"])
    assert means.tolist() == [5.0, 2.0, 2.0]


def test_without_a_difference_five_in_a_hundred_are_significant() -> None:
    """20 patients with 4 images each that are alike; over images it would be one in three."""
    rng = np.random.default_rng(20)
    patients = [f"p{index // 4}" for index in range(80)]
    found = []
    for _ in range(600):
        values = np.repeat(rng.normal(size=20), 4) + rng.normal(size=80) * 0.7
        found.append((signed_rank(patient_means(values, patients)), signed_rank(values)))
    over_patients, over_images = (np.array(found) < 0.05).mean(0)
    assert 0.03 <= over_patients <= 0.07
    assert over_images > 0.25


def test_holm_by_hand() -> None:
    # Holm 1979: 4 x 0.005, 3 x 0.01, then 2 x 0.03; 0.04 may not fall below it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    corrected = holm([0.01, math.nan, 0.04])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])


@given(st.lists(st.floats(0, 1), max_size=8), st.randoms())
def test_holm_keeps_order_and_is_between_p_and_bonferroni(ps: list[float], rng: object) -> None:
    corrected = holm(ps)
    for p, q in zip(ps, corrected, strict=True):
        assert p <= q <= min(1.0, p * len(ps)) + 1e-12
    assert holm(ps[::-1]) == pytest.approx(corrected[::-1])


def test_spread_is_the_samples() -> None:
    assert mean_sd([1.0, 3.0, math.nan]) == (2.0, pytest.approx(math.sqrt(2)))
    assert mean_sd([1.0])[0] == 1.0
    assert math.isnan(mean_sd([1.0])[1])
    assert math.isnan(mean_sd([])[0])
