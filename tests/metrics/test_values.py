"""What is found once of a map is what NumPy says, however dark the map is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attnseg.metrics import values as values_module
from attnseg.metrics.collection import TrainingMetrics
from attnseg.metrics.regions import Region
from attnseg.metrics.segmentation import THRESHOLDS
from attnseg.metrics.values import Map, RankedMap, Ranks

from . import tester

VALUES = st.one_of(
    st.floats(0, 1, width=32, allow_subnormal=False), st.sampled_from([0.0, 0.25, 0.5, 1.0])
)
ON_GRID = st.sampled_from([float(np.float32(t)) for t in THRESHOLDS])


@settings(max_examples=50, deadline=None)
@given(
    probability=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.just(1), st.integers(1, 6), st.integers(1, 6)),
        elements=st.one_of(st.floats(0, 1, width=32), ON_GRID),
    ),
    data=st.data(),
)
def test_counts_are_those_of_a_loop(probability: np.ndarray, data: st.DataObject) -> None:
    mask = data.draw(hnp.arrays(np.bool_, probability.shape))
    grid = torch.tensor(THRESHOLDS)
    p, g = torch.from_numpy(probability), torch.from_numpy(mask)
    predicted, true = RankedMap(p[:, 0]).n_above(grid, Region(g[:, 0]))
    for k, threshold in enumerate(grid):
        above = (p > threshold).flatten(1)
        assert predicted[:, k].tolist() == above.sum(1).tolist()
        assert true[:, k].tolist() == (above & g.flatten(1)).sum(1).tolist()


@settings(max_examples=60, deadline=None)
@given(
    values=hnp.arrays(
        np.float32,
        st.integers(1, 60),
        elements=st.one_of(st.floats(0, 1, width=32), ON_GRID, st.just(np.nan)),
    ),
    n_dark=st.integers(0, 150),
)
def test_dark_pixels_and_nan_change_no_count(values: np.ndarray, n_dark: int) -> None:
    """Mostly dark or mostly bright, with values at a threshold; NaN is above every one."""
    grid = torch.tensor(THRESHOLDS)
    dark = np.full(n_dark, THRESHOLDS[0], dtype=np.float32)
    p = torch.from_numpy(np.concatenate([dark, values]))[None, None, None]
    predicted, true = RankedMap(p[0]).n_above(grid, Region(torch.ones_like(p[0], dtype=torch.bool)))
    wanted = [int((~(p <= threshold)).sum()) for threshold in grid]
    assert predicted.tolist() == true.tolist() == [wanted]


def top_decile(kind: type[Map], values: np.ndarray) -> np.ndarray:
    return kind(torch.from_numpy(values)[None, None]).top_decile.mask[0, 0].numpy()


@settings(max_examples=80, deadline=None)
@given(values=hnp.arrays(np.float32, st.integers(1, 300), elements=VALUES))
def test_top_decile_is_what_lies_above_numpys_percentile(values: np.ndarray) -> None:
    wanted = values > np.percentile(values.astype(np.float64), 90)
    for kind in (Map, RankedMap):
        np.testing.assert_array_equal(top_decile(kind, values), wanted)


def test_top_decile_at_every_remainder_of_the_size() -> None:
    for n in range(1, 132):  # where 0.9 (n - 1) is whole, the percentile is a value itself
        values = np.random.default_rng(n).permutation(n).astype(np.float32)
        wanted = values > np.percentile(values, 90)
        for kind in (Map, RankedMap):
            np.testing.assert_array_equal(top_decile(kind, values), wanted)


@settings(max_examples=80, deadline=None)
@given(
    bright=hnp.arrays(np.float32, st.integers(0, 30), elements=st.one_of(VALUES, st.just(np.nan))),
    dark=hnp.arrays(np.float32, st.integers(1, 90), elements=st.floats(0, 0.0009765625, width=32)),
    seed=st.integers(0, 9),
)
def test_ranks_are_those_of_a_whole_sort(bright: np.ndarray, dark: np.ndarray, seed: int) -> None:
    values = np.random.default_rng(seed).permutation(np.concatenate([bright, dark]))
    ranks, ordered = Ranks(values), np.sort(values)
    np.testing.assert_array_equal([ranks.order_statistic(k) for k in range(len(values))], ordered)
    np.testing.assert_array_equal(ranks.ends(), [values.min(), values.max()])
    limits = np.array([0.0, 0.0005, 0.001, 0.3], dtype=np.float32)  # some among the dark ones
    wanted = [int((~(values <= limit)).sum()) for limit in limits]
    assert ranks.n_above(limits).tolist() == wanted


def test_a_training_batch_is_sorted_and_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alignment and segmentation look at the same batch: what both need is found once."""
    sorted_sizes, n_prepared = [], []
    monkeypatch.setattr(
        values_module, "Ranks", lambda case: sorted_sizes.append(len(case)) or Ranks(case)
    )
    made = values_module.Prepared.__init__
    monkeypatch.setattr(
        values_module.Prepared, "__init__", lambda *args: n_prepared.append(1) or made(*args)
    )
    cases = tester.mixture()[:4]
    batch = tester.tensors(cases)
    TrainingMetrics().update(**batch)
    n_pixels = batch["mask"][0].numel()
    assert sorted_sizes.count(n_pixels) == len(cases)
    assert len(n_prepared) == 1
