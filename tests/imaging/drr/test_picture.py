"""From HU to the picture: attenuation, display, and the published recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.config.drr import AttenuationConfig, DisplayConfig, MasksConfig, ProjectionConfig
from attnseg.imaging.drr.attenuation import attenuation_per_mm
from attnseg.imaging.drr.display import develop, nearest, to_square
from attnseg.imaging.drr.geometry import build_geometry
from attnseg.imaging.drr.reading import read_ct, read_nodules
from attnseg.imaging.drr.views import all_views, optical_depth, project_view
from attnseg.imaging.drr.volume import Volume
from attnseg.imaging.images import read_image, read_mask
from tests.imaging.drr.helpers import projection, volume


def _mu(hu: list[float], **config: object) -> np.ndarray:
    voxels = torch.tensor(hu)
    function = attenuation_per_mm(AttenuationConfig(**config), voxels, 2.0)  # type: ignore[arg-type]
    return function(voxels).numpy()


def test_water_attenuates_as_water_and_air_not_at_all() -> None:
    mu = _mu([-3000.0, -1000.0, -500.0, 0.0, 1000.0], water_per_mm=0.02)
    np.testing.assert_allclose(mu, [0.0, 0.0, 0.01, 0.02, 0.04], atol=1e-7)


def test_lung_can_be_made_air_and_bone_count_more() -> None:
    mu = _mu([-850.0, -500.0, -499.0], water_per_mm=0.02, air_below_hu=-500.0)
    np.testing.assert_allclose(mu, [0.0, 0.0, 0.01002], atol=1e-7)
    mu = _mu([300.0, 400.0], water_per_mm=0.02, bone_factor=2.0)
    np.testing.assert_allclose(mu, [0.026, 0.03], atol=1e-7)


def test_the_published_range_is_per_voxel() -> None:
    mu = _mu([-1024.0, -500.0, -400.0, 2000.0], kind="range", air_below_hu=-500.0)
    np.testing.assert_allclose(2.0 * mu, [0.0, 0.0, 0.001 * 600 / 3000, 0.001], atol=1e-9)
    mu = _mu([0.0, 50.0, 100.0], kind="range")
    np.testing.assert_allclose(2.0 * mu, [0.0, 0.0005, 0.001], atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["intensity", "log"]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_picture_is_in_range_and_dense_is_bright(seed: int, signal: str, fixed: bool) -> None:
    depth = np.sort(np.random.default_rng(seed).random(64) * 6.0).reshape(8, 8)
    window = (0.05, 0.8) if signal == "intensity" else (1.0, 4.0)
    display = DisplayConfig(
        signal=signal,  # type: ignore[arg-type]
        percentiles=None if fixed else (1.0, 99.0),
        window=window if fixed else None,
    )
    image, (low, high) = develop(depth, display)
    assert image.min() >= 0.0
    assert image.max() <= 1.0
    assert (np.diff(image.ravel()) >= 0.0).all()
    assert low < high


def test_a_fixed_window_of_optical_depth_is_linear_in_it() -> None:
    display = DisplayConfig(signal="log", percentiles=None, window=(1.0, 5.0))
    image, _ = develop(np.array([[0.0, 1.0, 3.0, 5.0, 9.0]]), display)
    np.testing.assert_allclose(image[0], [0.0, 0.0, 0.5, 1.0, 1.0])


def test_nothing_between_source_and_detector_is_a_finite_picture() -> None:
    display = DisplayConfig(clahe_clip=0.03, blur_px=0.5)
    assert np.isfinite(develop(np.zeros((20, 20)), display)[0]).all()


def test_square_pixels() -> None:
    image = np.random.default_rng(0).random((12, 16)).astype(np.float32)
    assert to_square(image, (12, 16)) is image
    assert to_square(image, (42, 16)).shape == (42, 16)
    labels = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(nearest(labels, (4, 2))[:, 0], [1, 1, 3, 3])


def test_beer_and_lambert_through_a_slab_of_water() -> None:
    ct = volume(np.zeros((10, 100, 12), np.int16), (2.0, 1.0, 1.0))
    config = projection("parallel", "projection.attenuation.water_per_mm=0.02")
    depth = optical_depth(ct, build_geometry(config, config.views[0], ct), config)
    np.testing.assert_allclose(depth[5, 5], 2.0, rtol=1e-5)


@given(st.text(max_size=8), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_random_views_are_the_cases_own_and_within_reach(case: str, seed: int) -> None:
    config = projection("cone_beam").model_copy(
        update={"random_views": projection("cone_beam").random_views.model_copy(
            update={"count": 4, "seed": seed})}
    )  # fmt: skip
    views = all_views(config, case)
    assert views == all_views(config, case)
    assert len({view.name for view in views}) == 5
    assert all(abs(v.angle_deg) <= 10.0 and abs(v.tilt_deg) <= 5.0 for v in views)
    assert all_views(config, case + "x")[1:] != views[1:]


@pytest.fixture(scope="module")
def lidc() -> tuple[Volume, Volume, Path]:
    data = Path(__file__).resolve().parents[4] / "shared" / "data"
    if not data.is_dir():
        pytest.skip(f"the shared LIDC-IDRI CT is not here ({data})")
    ct = read_ct(data / "lidc_ct" / "LIDC-IDRI-0001_ct.nii.gz")
    mask = data / "lidc_ct" / "LIDC-IDRI-0001_nodule_readers.nii.gz"
    nodules = read_nodules(mask, ct, MasksConfig())
    (drr,) = (data / "lidc_drr" / "LIDC_LDRI" / "1-200").glob("LIDC-IDRI-0001_*_drr.png")
    return ct, nodules, drr


@pytest.mark.shared_data
def test_the_shared_ct_gives_the_published_drr_and_mask(lidc: tuple[Volume, Volume, Path]) -> None:
    ct, nodules, file = lidc
    config: ProjectionConfig = projection("lidc_drr")
    result = project_view(ct, nodules, config, config.views[0])
    published = read_image(file).pixels.astype(float)
    assert result.image.shape == published.shape
    assert np.corrcoef(result.image.ravel(), published.ravel())[0, 1] > 0.9995
    mask = read_mask(file.with_name(file.name.replace("_drr.png", "_drr_mask.png"))).pixels > 0
    assert result.nodules is not None
    found = result.nodules.mask > 0
    assert 2 * (mask & found).sum() / (mask.sum() + found.sum()) > 0.96
    np.testing.assert_allclose(result.geometry.spacing, (133 * 2.5 / 472, 0.703125))


@pytest.mark.shared_data
def test_the_shared_cts_nodule_lies_where_its_pixels_say(
    lidc: tuple[Volume, Volume, Path],
) -> None:
    ct, nodules, _ = lidc
    centre = ct.to_world(np.argwhere(nodules.voxels > 0).mean(axis=0))
    for name in ("lidc_drr", "parallel", "cone_beam"):
        config = projection(name)
        result = project_view(ct, nodules, config, config.views[0])
        assert result.nodules is not None
        pixels = np.argwhere(result.nodules.mask)
        seen = result.geometry.world_to_pixel(centre)
        assert np.abs(pixels.mean(axis=0) - seen).max() < 3.0
