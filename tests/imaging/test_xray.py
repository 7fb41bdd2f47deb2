from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.imaging.drr.front_to_back import water_path
from attnseg.imaging.xray import (
    Beam,
    Pose,
    draw_beam,
    draw_pose,
    expose,
    simulate_xray,
    slab_paths,
    view,
    xray_of_volume,
)

STRAIGHT = Pose(shift_mm=(0.0, 0.0), roll=0.0, pitch=0.0, yaw=0.0, zoom=1.0, source_mm=1e12)
CLEAN = Beam(
    water_per_mm=0.02,
    hardening=0.0,
    bone_factor=1.0,
    scatter=0.0,
    scatter_mm=20.0,
    grid_lines=(0.0, 0.3),
    photons=1e7,
    heel=0.0,
    blur_px=0.0,
    detail=(0.0, 20.0),
    gamma=1.0,
)


def _drr(shape: tuple[int, int] = (64, 96)) -> np.ndarray:
    rows, columns = np.indices(shape)
    smooth = 0.5 + 0.4 * np.sin(rows / 7.0) * np.cos(columns / 9.0)
    smooth[:, :10] = 0.0  # air beside the patient
    return smooth.astype(np.float32)


def _path() -> np.ndarray:
    return (200.0 * _drr()).astype(np.float32)


def _noise(beam: Beam, seed: int = 0) -> float:
    path = np.full((64, 64), 80.0, dtype=np.float32)
    path[:8], path[-8:] = 20.0, 150.0
    return float(expose(path, (1.4, 1.4), beam, np.random.default_rng(seed))[20:44].std())


def test_same_key_same_bits_and_other_key_other_picture() -> None:
    drr = _drr()
    first = simulate_xray(drr, (1, 2, 3))
    assert first.tobytes() == simulate_xray(drr, (1, 2, 3)).tobytes()
    assert first.tobytes() != simulate_xray(drr, (1, 2, 4)).tobytes()


@given(st.tuples(st.integers(8, 70), st.integers(8, 70)), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_any_picture_gives_a_displayable_one_on_its_grid(shape: tuple[int, int], seed: int) -> None:
    drr = np.random.default_rng(seed).random(shape).astype(np.float32)
    xray = simulate_xray(drr, (seed,))
    assert xray.shape == shape
    assert xray.dtype == np.float32
    assert np.isfinite(xray).all()
    assert 0.0 <= xray.min() <= xray.max() <= 1.0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_blank_drr_is_no_trouble(value: float) -> None:
    assert np.isfinite(simulate_xray(np.full((40, 40), value, np.float32), (0,))).all()


def test_simulated_xray_is_like_its_drr_but_not_it() -> None:
    drr = _drr((96, 96))
    for key in range(5):
        correlation = np.corrcoef(simulate_xray(drr, (key,)).ravel(), drr.ravel())[0, 1]
        assert 0.7 < correlation < 0.9999


def test_spacing_sets_how_far_the_pose_moves_pixels() -> None:
    drr = np.zeros((128, 128), np.float32)
    drr[56:72, 56:72] = 1.0
    fine, coarse = (simulate_xray(drr, (3,), (s, s)) for s in (0.2, 2.0))

    def moved(picture: np.ndarray) -> float:
        inside = np.argwhere(picture > 0.5 * picture.max())
        return float(np.abs(inside.mean(axis=0) - 63.5).max())

    assert moved(fine) > moved(coarse) + 1.0


def test_slabs_add_up_to_the_whole_path() -> None:
    volume = np.random.default_rng(0).integers(-1000, 1500, (9, 50, 11)).astype(np.int16)
    paths, depths = slab_paths(volume, 2.0, bone_factor=1.0)
    np.testing.assert_allclose(paths.sum(axis=0), water_path(volume, 2.0), rtol=1e-5)
    np.testing.assert_allclose(depths.mean(), 0.0, atol=1.0)
    assert np.all(np.diff(depths) > 0.0)
    boned, _ = slab_paths(volume, 2.0, bone_factor=1.5)
    mineral = np.maximum(volume.astype(float) - 150.0, 0.0).sum(axis=1) * 0.002
    np.testing.assert_allclose(boned.sum(axis=0) - paths.sum(axis=0), 0.5 * mineral, rtol=1e-3)


def test_a_straight_pose_from_afar_is_the_parallel_projection() -> None:
    paths = np.random.default_rng(1).random((4, 20, 30)).astype(np.float32)
    seen = view(paths, np.array([-30.0, -10.0, 10.0, 30.0]), (1.0, 1.0), STRAIGHT)
    np.testing.assert_allclose(seen, paths.sum(axis=0), rtol=1e-4)


@pytest.mark.parametrize(
    ("pose", "depth", "expected"),
    [
        (replace(STRAIGHT, shift_mm=(6.0, -4.0)), 0.0, (56.0, 68.0)),  # 1 and 2 mm a pixel
        (replace(STRAIGHT, pitch=0.1), 50.0, (55.0, 70.0)),
        (replace(STRAIGHT, yaw=0.1), 50.0, (50.0, 72.5)),
        (replace(STRAIGHT, source_mm=250.0), 50.0, (50.0, 75.0)),  # magnified by 250 / 200
        (replace(STRAIGHT, source_mm=250.0), -50.0, (50.0, 50.0 + 20.0 / 1.2)),
        (replace(STRAIGHT, zoom=1.1), 0.0, (50.0, 72.0)),
        (replace(STRAIGHT, roll=np.pi / 2), 0.0, (10.0, 50.0)),
    ],
)
def test_poses_move_a_point_as_geometry_says(
    pose: Pose, depth: float, expected: tuple[float, float]
) -> None:
    path = np.zeros((1, 101, 101), np.float32)
    path[0, 49:52, 69:72] = 1.0  # 20 columns of 2 mm right of the middle
    seen = view(path, np.array([depth]), (1.0, 2.0), pose)
    rows, columns = np.indices(seen.shape)
    centre = ((rows * seen).sum() / seen.sum(), (columns * seen).sum() / seen.sum())
    np.testing.assert_allclose(centre, expected, atol=0.15)


def test_fewer_photons_more_noise() -> None:
    assert _noise(replace(CLEAN, photons=1e3)) > 3.0 * _noise(replace(CLEAN, photons=1e5))


def test_scatter_takes_contrast_away() -> None:
    def contrast(beam: Beam) -> float:
        path = np.full((64, 64), 60.0, dtype=np.float32)
        path[:, :16], path[:, 48:] = 150.0, 20.0
        path[30:34, 30:34] += 20.0
        picture = expose(path, (1.4, 1.4), beam, np.random.default_rng(0))
        return float(picture[31:33, 31:33].mean() - picture[20:24, 30:34].mean())

    assert contrast(replace(CLEAN, scatter=0.5)) < 0.9 * contrast(CLEAN)


def test_grid_heel_blur_and_gamma_each_show() -> None:
    path = _path()
    plain = expose(path, (1.4, 1.4), CLEAN, np.random.default_rng(0))
    for change in (
        {"grid_lines": (0.05, 0.3)},
        {"heel": 0.4},
        {"blur_px": 2.0},
        {"gamma": 1.5},
        {"hardening": 0.3},
        {"detail": (1.0, 10.0)},
    ):
        other = expose(path, (1.4, 1.4), replace(CLEAN, **change), np.random.default_rng(0))
        assert np.abs(other - plain).mean() > 1e-3, change


def test_direct_exposure_is_black_and_dense_is_bright() -> None:
    picture = expose(_path(), (1.4, 1.4), CLEAN, np.random.default_rng(0))
    assert picture[:, :8].max() == 0.0
    order = np.argsort(_path().ravel())
    assert picture.ravel()[order[-200:]].mean() > picture.ravel()[order[2000:2200]].mean()


def test_xray_of_a_volume_lies_on_its_drrs_grid() -> None:
    volume = np.full((64, 40, 64), -1000, np.int16)
    volume[8:56, 8:32, 8:56] = 0
    volume[44:50, 18:24, 40:46] = 1500  # up and on the patient's left
    xray = xray_of_volume(volume, (3.0, 4.0, 3.0), (7,))
    assert xray.shape == (64, 64)
    bright = np.argwhere(xray > 0.97 * xray.max()).mean(axis=0)
    np.testing.assert_allclose(bright, (64 - 47, 42.5), atol=2.5)
    assert xray.tobytes() == xray_of_volume(volume, (3.0, 4.0, 3.0), (7,)).tobytes()


def test_drawn_poses_stay_close_and_beams_stay_physical() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        pose, beam = draw_pose(rng), draw_beam(rng)
        assert max(abs(s) for s in pose.shift_mm) <= 1.5
        assert max(abs(pose.pitch), abs(pose.yaw), abs(pose.roll)) <= np.deg2rad(1.0)
        assert 0.017 < beam.water_per_mm < 0.022
        assert beam.bone_factor > 1.0
