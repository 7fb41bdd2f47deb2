from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from attnseg.phantom import Phantom, draw_case, generate_phantom, is_negative
from attnseg.phantom.anatomy import draw_patient, heart, in_lung, lung_space
from attnseg.phantom.nodules import Nodule, draw_nodules, is_clear
from attnseg.phantom.paint import add_vessels, fill_interval, make_grid
from attnseg.phantom.shapes import Capsule, Ellipsoid, Interval
from attnseg.phantom.vessels import Vessels, pulmonary_vessels
from attnseg.phantom.volume import build_phantom

SETTINGS = {
    "negative_fraction": 0.0,
    "max_nodules": 2,
    "diameter_mm": (12.0, 24.0),
    "contrast_hu": (700.0, 900.0),
}


def _phantom(seed: int = 0, index: int = 0, size: int = 64, **changes: object) -> Phantom:
    return generate_phantom(seed, index, size=size, **{**SETTINGS, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return _phantom(size=128)


def test_a_key_always_gives_the_same_bits() -> None:
    first, again = _phantom(3, 5), _phantom(3, 5)
    assert first.volume_hu.tobytes() == again.volume_hu.tobytes()
    assert first.nodule_mask.tobytes() == again.nodule_mask.tobytes()


def test_every_key_is_another_patient() -> None:
    patients = {draw_case(seed, index, **SETTINGS)[0] for seed in (0, 1) for index in range(20)}
    assert len(patients) == 40
    spread = [(p.cage_a, p.dome_z[0], p.heart, p.wall) for p in patients]
    assert np.all(np.std(spread, axis=0) > (3.0, 4.0, 0.04, 3.0))


def test_the_patient_is_the_same_at_every_size() -> None:
    small, large = _phantom(0, 1, 64), _phantom(0, 1, 128)
    thumbnail = large.nodule_mask.any(axis=1).reshape(64, 2, 64, 2).mean(axis=(1, 3))
    seen = small.nodule_mask.any(axis=1)
    assert np.all(thumbnail[ndimage.binary_erosion(seen)] > 0.4)
    assert np.all(thumbnail[~ndimage.binary_dilation(seen, iterations=2)] == 0.0)
    path = large.volume_hu.astype(float).sum(axis=1).reshape(64, 2, 64, 2).mean(axis=(1, 3))
    assert np.corrcoef(path.ravel(), small.volume_hu.astype(float).sum(axis=1).ravel())[0, 1] > 0.99


def test_nodule_settings_change_no_anatomy() -> None:
    plain, _ = draw_case(0, 4, **SETTINGS)
    other, _ = draw_case(0, 4, **{**SETTINGS, "max_nodules": 5, "negative_fraction": 1.0})
    assert plain == other
    with_nodules, without = _phantom(0, 4), _phantom(0, 4, negative_fraction=1.0)
    outside = ~ndimage.binary_dilation(with_nodules.nodule_mask, iterations=3)
    np.testing.assert_array_equal(with_nodules.volume_hu[outside], without.volume_hu[outside])
    assert np.any(with_nodules.volume_hu != without.volume_hu)


def test_tissues_have_the_hu_of_a_ct(phantom: Phantom) -> None:
    volume = phantom.volume_hu
    litres = np.prod(phantom.spacing) / 1e6
    assert volume.dtype == np.int16
    assert -1100 < volume.min() < -950
    assert 400 < volume.max() < 1400
    lungs = ((volume > -930) & (volume < -780)).sum() * litres
    soft = ((volume > -20) & (volume < 110)).sum() * litres
    bone = (volume > 180).sum() * litres
    assert 2.5 < lungs < 8.0
    assert 5.0 < soft < 20.0
    assert 0.3 < bone < 2.5
    assert np.all(volume[:, 0] < -900)  # air in front of and behind the patient
    assert np.all(volume[:, -1] < -900)


def test_organs_lie_where_they_belong(phantom: Phantom) -> None:
    patient, _ = draw_case(0, 0, **SETTINGS)
    volume = phantom.volume_hu
    path = volume.astype(float).sum(axis=1)
    z, x = (
        (np.arange(128) - 63.5) * phantom.spacing[0],
        (np.arange(128) - 63.5) * phantom.spacing[2],
    )

    def at(z_mm: float, x_mm: float) -> float:
        rows, columns = np.abs(z - z_mm) < 8.0, np.abs(x - x_mm) < 8.0
        return float(path[np.ix_(rows, columns)].mean())

    lung, spine = at(40.0, -80.0), at(40.0, 0.0)
    left_heart, mirrored = at(patient.dome_z[1] + 35.0, 45.0), at(patient.dome_z[1] + 35.0, -70.0)
    assert spine > left_heart > lung
    assert left_heart > mirrored  # the heart points to the left
    assert at(-150.0, -70.0) > lung  # below the diaphragm
    right_dome, left_dome = patient.dome_z
    assert right_dome > left_dome
    assert all(e.centre[2] + e.radii[2] > 0 for e in heart(patient))


def test_ribs_cross_the_lung_as_bands(phantom: Phantom) -> None:
    columns = np.abs((np.arange(128) - 63.5) * phantom.spacing[2] + 95.0) < 4.0
    rows = np.abs((np.arange(128) - 63.5) * phantom.spacing[0] - 20.0) < 80.0
    bone = np.maximum(phantom.volume_hu[rows][:, :, columns].astype(float) - 150.0, 0.0)
    back = bone[:, bone.shape[1] // 2 :].sum(axis=(1, 2))
    bands, count = ndimage.label(back > 0.35 * back.max())
    assert 4 <= count <= 9, count
    assert bands.max() == count


@pytest.mark.parametrize("index", range(4))
def test_nodules_are_in_the_lung_and_as_large_and_dense_as_asked(index: int) -> None:
    patient, nodules = draw_case(0, index, **SETTINGS)
    result = _phantom(0, index, 128)
    labels, count = ndimage.label(result.nodule_mask)
    assert count == len(nodules)
    voxel = float(np.prod(result.spacing))
    for nodule in nodules:
        assert in_lung(patient, *(np.array(c) for c in nodule.centre))
        at = tuple(
            round(c / s + 0.5 * (n - 1))
            for c, s, n in zip(nodule.centre, result.spacing, labels.shape, strict=True)
        )
        inside = labels == labels[at]
        assert labels[at] > 0
        diameter = 2.0 * (inside.sum() * voxel * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
        assert 0.7 * 2.0 * nodule.radius < diameter < 1.25 * 2.0 * nodule.radius
        core = ndimage.binary_erosion(inside)
        hu = result.volume_hu[core].mean() - patient.lung
        assert (
            nodule.contrast_hu - 60.0 < hu < nodule.contrast_hu + 450.0
        )  # vessels may run through
    assert result.volume_hu[result.nodule_mask].min() > patient.lung


def test_diameters_and_contrasts_span_their_ranges() -> None:
    cases = [draw_case(1, index, **SETTINGS)[1] for index in range(60)]
    nodules = [nodule for case in cases for nodule in case]
    diameters = np.array([2.0 * n.radius for n in nodules])
    contrasts = np.array([n.contrast_hu for n in nodules])
    assert diameters.max() <= 24.0
    assert np.quantile(diameters, 0.1) < 15.0 < 20.0 < np.quantile(diameters, 0.95)
    assert 700.0 <= contrasts.min() < 730.0 < 870.0 < contrasts.max() <= 900.0
    counts = [len(case) for case in cases]
    assert set(counts) == {1, 2}
    assert counts.count(1) > counts.count(2)


def test_some_nodules_are_hidden_but_most_are_not() -> None:
    clear, depth, covered = [], [], []
    for index in range(120):
        patient, nodules = draw_case(2, index, **SETTINGS)
        for nodule in nodules:
            z, x = np.array(nodule.centre[0]), np.array(nodule.centre[2])
            clear.append(bool(is_clear(patient, z, x, nodule.radius)))
            lung = lung_space(patient, z, x)
            depth.append((lung.back - lung.front) / patient.cage_b)
            covered.append(any(np.ptp(e.interval(z, x)) > 0.0 for e in heart(patient)))
    free = np.array(clear)
    assert 0.76 < free.mean() < 0.94
    assert not np.array(covered)[free].any()
    assert np.array(depth)[free].min() > 1.1
    assert np.array(covered)[~free].any()
    assert np.array(depth)[~free].min() < 1.1


@given(st.integers(0, 10**6), st.integers(0, 10**5), st.sampled_from([0.05, 0.15, 0.5, 0.9]))
@settings(max_examples=60, deadline=None)
def test_any_stretch_of_cases_has_nearly_its_share_of_negatives(
    seed: int, first: int, fraction: float
) -> None:
    negatives = sum(is_negative(seed, index, fraction) for index in range(first, first + 40))
    assert abs(negatives - 40 * fraction) <= 2.5


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, False), (1.0, True)])
def test_none_and_all_negative(fraction: float, expected: bool) -> None:
    assert {is_negative(7, index, fraction) for index in range(200)} == {expected}
    assert _phantom(negative_fraction=fraction).nodule_mask.any() != expected


def test_a_nodule_too_small_for_the_grid_still_marks_its_voxel() -> None:
    for index in range(5):
        tiny = _phantom(0, index, diameter_mm=(0.5, 0.6), max_nodules=1)
        assert tiny.nodule_mask.sum() == 1
        assert tiny.volume_hu[tiny.nodule_mask] > -400


def test_lungs_too_full_for_the_nodules_end_with_smaller_ones() -> None:
    patient = draw_patient(np.random.default_rng(0))
    nodules = draw_nodules(patient, np.random.default_rng(1), 60, (59.0, 60.0), (700.0, 800.0))
    radii = [n.radius for n in nodules]
    assert len(nodules) == 60
    assert min(radii) < 20.0 < max(radii)


def test_vessels_branch_from_the_hilum_and_taper_to_the_periphery() -> None:
    patient = draw_patient(np.random.default_rng(0))
    vessels = pulmonary_vessels(patient, np.random.default_rng(1))
    assert len(vessels.start) > 300
    thick = vessels.start_radius > 3.0 * vessels.start_radius.min()
    assert 2 <= thick.sum() < 0.1 * len(thick)
    assert np.abs(vessels.start[thick, 2]).max() < 70.0
    assert np.all(vessels.end_radius <= vessels.start_radius)
    starts = {tuple(p) for p in vessels.start}
    forks = [tuple(p) for p in vessels.end if tuple(p) in starts]
    assert len(forks) > 150
    joints = np.array(sorted(forks))
    inside = in_lung(patient, joints[:, 0], joints[:, 1], joints[:, 2])
    assert inside.mean() > 0.6


def test_vessels_are_seen_in_the_lungs_only() -> None:
    patient, _ = draw_case(0, 2, **SETTINGS)
    patient = replace(patient, blood=50.0)
    rng = np.random.default_rng
    vessels = pulmonary_vessels(patient, rng(0))
    none = Vessels(*(part[:0] for part in vessels))
    bare = build_phantom(patient, none, [], 64, rng(1)).volume_hu
    full = build_phantom(patient, vessels, [], 64, rng(1)).volume_hu
    changed = bare != full
    assert changed.mean() > 0.002
    assert bare[changed].max() < -700  # nothing but lung was painted over
    assert np.all(full[changed] > bare[changed])


@given(
    st.floats(-40.0, 40.0),
    st.floats(0.0, 60.0),
    st.sampled_from([0.7, 1.0, 2.7, 5.0]),
    st.integers(-900, 900),
)
@settings(max_examples=100, deadline=None)
def test_an_interval_has_its_exact_integral_on_any_grid(
    front: float, length: float, step: float, hu: int
) -> None:
    grid = make_grid((2, round(220.0 / step), 3), (1.0, step, 1.0))
    volume = np.zeros(grid.shape, np.int16)
    fill_interval(
        volume, grid, Interval(np.full((2, 3), front), np.full((2, 3), front + length)), hu
    )
    np.testing.assert_allclose(volume.sum(axis=1) * step, length * hu, atol=1.01 * step)


def test_an_interval_beyond_the_grid_is_cut_off() -> None:
    grid = make_grid((1, 10, 2), (1.0, 2.0, 1.0))
    volume = np.zeros(grid.shape, np.int16)
    interval = Interval(np.array([[-1e4, 8.5]]), np.array([[-7.0, 1e4]]))
    fill_interval(volume, grid, interval, 100)
    np.testing.assert_array_equal(volume[0, :, 0], [100, 50, 0, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(volume[0, :, 1], [0, 0, 0, 0, 0, 0, 0, 0, 0, 75])


def test_ellipsoid_interval_has_the_ellipsoids_volume() -> None:
    z, x = (np.arange(-60.0, 60.0, 0.5)[:, None], np.arange(-60.0, 60.0, 0.5)[None, :])
    body = Ellipsoid((3.0, 5.0, -4.0), (20.0, 30.0, 40.0), tilt=0.6).interval(z, x)
    volume = (body.back - body.front).sum() * 0.25
    np.testing.assert_allclose(volume, 4.0 / 3.0 * np.pi * 20.0 * 30.0 * 40.0, rtol=1e-3)


def test_batched_vessels_equal_capsules_one_by_one() -> None:
    rng = np.random.default_rng(0)
    start, end = rng.uniform(-18.0, 18.0, (2, 25, 3)).astype(np.float32)
    first, last = rng.uniform(0.5, 4.0, (2, 25)).astype(np.float32)
    grid = make_grid((30, 16, 31), (1.1, 2.5, 1.1))
    allowed = rng.random(grid.shape) < 0.8
    batched = np.full(grid.shape, -850, np.int16)
    add_vessels(batched, grid, Vessels(start, end, first, last), 50.0, allowed)
    expected = np.full(grid.shape, -850.0)
    for a, b, r, s in zip(start, end, first, last, strict=True):
        depth = Capsule(tuple(a.tolist()), tuple(b.tolist()), r, s).depth(grid.z, grid.y, grid.x)
        share = np.clip(depth / 2.0 + 0.5, 0.0, 1.0) * allowed
        expected = np.maximum(expected, -850.0 + share * 900.0)
    np.testing.assert_allclose(batched, expected, atol=1.0)


def test_nodule_depth_is_positive_inside_only() -> None:
    nodule = Nodule(
        centre=(0.0, 0.0, 0.0),
        radius=10.0,
        contrast_hu=800.0,
        stretch=(1.0, 1.0, 1.0),
        lobes=np.zeros((4, 5)),
        roughness=0.0,
    )
    points = np.linspace(-15.0, 15.0, 31)
    depth = nodule.depth(points, np.zeros(31), np.zeros(31))
    np.testing.assert_allclose(depth, 10.0 - np.abs(points), atol=1e-4)
    assert nodule.reach >= 10.0
