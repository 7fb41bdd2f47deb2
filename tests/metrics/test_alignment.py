"""Laws of the alignment measures: ranges, symmetry, and what perfection scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from attnseg.metrics import maps
from attnseg.metrics.alignment import OF_EVERY_CASE, AlignmentMetrics, alignment_per_case
from attnseg.metrics.maps import distances_to_mask, moments
from attnseg.metrics.regions import Region
from attnseg.metrics.values import Map, RankedMap

from . import tester

SHAPES = st.tuples(st.integers(2, 18), st.integers(2, 18))
VALUES = st.one_of(
    st.floats(0, 1, width=32, allow_subnormal=False), st.sampled_from([0.0, 0.25, 0.5, 1.0])
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attention, probability and non-empty mask (1, 1, H, W), spacing (1, 2)."""
    shape = draw(SHAPES)
    maps = [draw(hnp.arrays(np.float32, shape, elements=VALUES)) for _ in range(2)]
    mask = draw(hnp.arrays(np.bool_, shape)).astype(np.float32)
    mask[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = 1
    spacing = [[draw(st.floats(0.1, 5)), draw(st.floats(0.1, 5))]]
    tensors = (torch.from_numpy(one)[None, None] for one in (*maps, mask))
    return *tensors, torch.tensor(spacing)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_ranges(case: tuple[Tensor, ...]) -> None:
    values = {name: float(value) for name, value in alignment_per_case(*case).items()}
    for name, value in values.items():
        low, high = (-1, 1) if name.endswith("corr") else (0, 1)
        if "distance" in name:
            high = np.inf
        if name != "nss":
            assert low - 1e-9 <= value <= high + 1e-9, f"{name}: {value}"
    diagonal = 512 * np.sqrt(2)
    assert max(values[n] for n in values if n.endswith("distance")) <= diagonal


@settings(max_examples=60, deadline=None)
@given(case=cases(), axes=st.sampled_from([(-1,), (-2,), (-2, -1)]))
def test_mirroring_changes_nothing(case: tuple[Tensor, ...], axes: tuple[int, ...]) -> None:
    *maps, spacing = case
    there = alignment_per_case(*maps, spacing)
    back = alignment_per_case(*(one.flip(axes) for one in maps), spacing)
    for name, value in there.items():
        # Lines are summed in single precision: a thousandth of a pixel for centres of mass.
        tolerance = 1e-3 if "distance" in name else 1e-4
        assert float(back[name]) == pytest.approx(float(value), abs=tolerance, rel=1e-5), name


@settings(max_examples=30, deadline=None)
@given(case=cases(), factor=st.sampled_from([2, 3]))
def test_distances_do_not_depend_on_the_resolution(case: tuple[Tensor, ...], factor: int) -> None:
    *maps, spacing = case
    grown = [one.repeat_interleave(factor, -1).repeat_interleave(factor, -2) for one in maps]
    small, large = alignment_per_case(*maps, spacing), alignment_per_case(*grown, spacing / factor)
    for name in ("attention_gt_distance", "seg_gt_distance"):
        for unit in ("", "_mm"):
            expected = pytest.approx(float(small[name + unit]), abs=1e-3, rel=1e-4)
            assert float(large[name + unit]) == expected


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(8, 20), st.integers(8, 20)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    spacing=st.floats(0.2, 3),
)
def test_perfect_attention(
    shape: tuple[int, int], place: tuple[float, float], spacing: float
) -> None:
    mask = torch.zeros(1, 1, *shape)
    top, left = (int(p * (n - 2)) for p, n in zip(place, shape, strict=True))
    mask[..., top : top + 2, left : left + 2] = 1  # at most 4 of 64 pixels: under a tenth
    values = alignment_per_case(mask, mask, mask, torch.full((1, 2), spacing))
    ones = ("gt_overlap", "corr", "pointing_game", "energy_inside", "soft_iou", "seg_overlap")
    for name, value in values.items():
        if name.endswith(ones):
            assert float(value) == pytest.approx(1.0), name
        elif "distance" in name:
            assert float(value) == pytest.approx(0.0, abs=1e-4), name


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_constant_map_scores_nothing(level: float) -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 2, 3] = 1
    flat = torch.full_like(mask, level)
    values = alignment_per_case(flat, flat, mask, torch.ones(1, 2))
    for name in values:
        if name.endswith(("overlap", "corr")) or name in ("nss", "pointing_game", "attention_std"):
            assert float(values[name]) == 0.0, name
    # Its centre, and its peak, are the middle of the image: (7.5, 7.5).
    assert float(values["attention_gt_distance_mm"]) == pytest.approx(np.hypot(5.5, 4.5))
    assert float(values["attention_gt_distance"]) == pytest.approx(32 * np.hypot(5.5, 4.5))
    around = [np.hypot(r, c) for r in (5, 6) for c in (4, 5)]
    assert float(values["pointing_game_distance_mm"]) == pytest.approx(np.mean(around))
    if level:
        assert float(values["energy_inside"]) == pytest.approx(1 / 256)


def test_distances_are_in_pixels_at_512_along_each_axis() -> None:
    attention, mask = torch.zeros(1, 1, 64, 128), torch.zeros(1, 1, 64, 128)
    attention[..., 10, 20] = 1
    mask[..., 13, 24] = 1
    values = alignment_per_case(attention, mask, mask, torch.tensor([[2.0, 0.5]]))
    for name in ("attention_gt_distance", "pointing_game_distance"):
        assert float(values[name]) == pytest.approx(np.hypot(3 * 8, 4 * 4))
        assert float(values[name + "_mm"]) == pytest.approx(np.hypot(3 * 2, 4 * 0.5))


def test_tied_peaks_share_the_point() -> None:
    attention, mask = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    attention[..., 2, 2] = attention[..., 2, 6] = 1
    mask[..., 2, 2] = 1
    values = alignment_per_case(attention, attention, mask, torch.ones(1, 2))
    assert float(values["pointing_game"]) == 0.5
    assert float(values["pointing_game_distance_mm"]) == 2.0


def test_many_tied_peaks_are_as_far_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs of points, and a tree where these are too many."""
    rng = np.random.default_rng(0)
    peak, mask = (Region(torch.from_numpy(rng.random((2, 20, 30)) > 0.9)) for _ in range(2))
    scales = torch.tensor([[[1.0, 2.0], [0.5, 0.7]]])
    by_pairs = distances_to_mask(peak, mask, scales)
    monkeypatch.setattr(maps, "FEW_PAIRS", 0)
    by_tree = distances_to_mask(peak, mask, scales)
    assert by_pairs.dtype == torch.float64
    torch.testing.assert_close(by_pairs, by_tree, rtol=1e-12, atol=0)


def test_moments_are_those_of_numpy_however_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last piece is shorter; rows left out of the first guess of the mean hold all there is."""
    monkeypatch.setattr(maps, "PIECE", 64)
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 2, 17, 19)).astype(np.float32)
    first[:, ::16] = 0
    truth = rng.random((2, 17, 19)) > 0.8
    got = moments(
        [Map(torch.from_numpy(first)), RankedMap(torch.from_numpy(second))],
        Region(torch.from_numpy(truth)),
    )
    for case in range(2):
        rows = np.stack([one[case].ravel().astype(np.float64) for one in (first, second, truth)])
        np.testing.assert_allclose(got.mean[case], rows.mean(1), rtol=1e-14)
        np.testing.assert_allclose(got.std[case], rows.std(1), rtol=1e-13)
        np.testing.assert_allclose(got.correlation[case], np.corrcoef(rows), atol=1e-13)


def test_negative_cases_count_only_in_the_range() -> None:
    batch = tester.tensors([tester.lifelike(1, (24, 24), 2), tester.lifelike(2, (24, 24), 0)])
    del batch["case_ids"]
    metric = AlignmentMetrics()
    metric.update(**batch)
    for name, values in metric.last.items():
        assert bool(values[1].isnan()) == (name not in OF_EVERY_CASE), name
    summary = metric.compute()
    assert (summary["n_cases"], summary["n_positive"], summary["n_empty"]) == (2, 1, 1)
    assert summary["attention_gt_corr"] == pytest.approx(float(metric.last["attention_gt_corr"][0]))
    both = metric.last["attention_max"].mean()
    assert summary["attention_max"] == pytest.approx(float(both))


def test_unknown_spacing_leaves_the_mm_means_alone() -> None:
    known, unknown = tester.lifelike(1, (24, 24), 2), tester.lifelike(3, (24, 24), 2)
    assert np.isnan(unknown.spacing).all()
    metric = AlignmentMetrics()
    batch = tester.tensors([known, unknown])
    del batch["case_ids"]
    metric.update(**batch)
    summary = metric.compute()
    assert summary["n_with_spacing"] == 1
    name = "attention_gt_distance_mm"
    assert summary[name] == pytest.approx(float(metric.last[name][0]))


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-20])
def test_correlation_keeps_its_digits_on_a_nearly_flat_map(scale: float) -> None:
    rng = np.random.default_rng(0)
    bump = rng.random((32, 32)).astype(np.float32)
    offset = np.float32(0.5 if scale == 1e-6 else 0.0)
    attention = (offset + np.float32(scale) * bump).astype(np.float32)
    mask = (bump > 0.95).astype(np.float32)
    wanted = np.corrcoef(attention.astype(np.float64).ravel(), mask.ravel())[0, 1]
    a, g = (torch.from_numpy(one)[None, None] for one in (attention, mask))
    got = alignment_per_case(a, a, g, torch.ones(1, 2))["attention_gt_corr"]
    assert float(got) == pytest.approx(wanted, abs=1e-12)
