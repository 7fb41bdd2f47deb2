"""The phantom's projection: exact, and the projector's own."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.data.sources.phantom import PhantomSource
from attnseg.imaging.drr.clahe import equalize_locally
from attnseg.imaging.drr.front_to_back import project_front_to_back, water_path
from attnseg.imaging.drr.geometry import build_geometry
from attnseg.imaging.drr.views import optical_depth
from tests.imaging.drr.helpers import projection, volume


def _ct(shape: tuple[int, int, int] = (12, 20, 16)) -> np.ndarray:
    return np.full(shape, -1000, dtype=np.int16)


def test_water_path_is_the_thickness_of_water() -> None:
    hu = _ct()
    hu[:, 5:15, 4] = 0
    hu[:, 5:15, 8] = 1000
    path = water_path(hu, depth_mm=2.5)
    np.testing.assert_allclose(path[:, 4], 25.0)
    np.testing.assert_allclose(path[:, 8], 50.0)
    assert np.all(path[:, 0] == 0.0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_water_path_does_not_care_about_the_order_of_depth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1024, 3000, (4, 60, 5)).astype(np.int16)
    shuffled = hu[:, rng.permutation(60)]
    assert water_path(hu, 0.7).tobytes() == water_path(shuffled, 0.7).tobytes()


def test_float_volumes_project_like_integers() -> None:
    hu = np.random.default_rng(0).integers(-1000, 900, (6, 7, 8)).astype(np.int16)
    np.testing.assert_array_equal(water_path(hu, 1.0), water_path(hu.astype(np.float32) + 0.2, 1.0))


def test_lung_counts_as_air_at_the_threshold() -> None:
    hu = _ct()
    hu[0], hu[1] = -500, -499
    path = water_path(hu, 1.0, air_below_hu=-500.0)
    assert np.all(path[0] == 0.0)
    np.testing.assert_allclose(path[1], 20 * 0.501, rtol=1e-6)


def test_head_is_up_and_the_patients_left_stays_right() -> None:
    hu = _ct((40, 20, 60))
    hu[-10:-1, 3, -14:-3] = 3000  # near the head, on the patient's left
    mask = hu > 0
    result = project_front_to_back(hu, (1.0, 1.0, 1.0), mask)
    assert result.mask.dtype == np.uint8
    assert result.mask[1:10, 46:57].all()
    assert result.mask.sum() == 99
    inside = result.mask > 0
    assert result.image[inside].mean() > result.image[~inside].mean() + 0.3


def test_empty_volume_gives_a_finite_picture() -> None:
    empty = np.zeros((12, 20, 16), bool)
    assert np.isfinite(project_front_to_back(_ct(), (1.0, 1.0, 1.0), empty).image).all()


def test_the_projector_agrees_with_the_whole_numbers() -> None:
    phantom = PhantomSource(n_cases=3, size=64)
    ct = phantom.phantom(phantom.cases()[1])
    config = projection("parallel", "projection.views=[AP]", "projection.detector.grid=voxels",
                        "projection.attenuation.water_per_mm=0.001",
                        "projection.attenuation.air_below_hu=-500")  # fmt: skip
    placed = volume(ct.volume_hu, ct.spacing)
    geometry = build_geometry(config, config.views[0], placed)
    depth = optical_depth(placed, geometry, config)
    exact = 0.001 * water_path(ct.volume_hu, ct.spacing[1], -500.0)
    np.testing.assert_allclose(depth, exact, rtol=2e-5, atol=1e-6)


def test_a_phantom_is_the_same_bytes_as_ever() -> None:
    """Measured studies rest on them: a change here needs a new GENERATOR_VERSION."""
    source = PhantomSource(n_cases=3, size=64)
    case = source.load(source.cases()[0])
    hashes = [hashlib.sha256(a.tobytes()).hexdigest()[:16] for a in (case.drr, case.mask)]
    assert hashes == ["4624c2fa23966ac1", "5a30ac62bd9c4165"]


@given(
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.01, 0.03, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_local_equalisation_stays_in_range(shape: tuple[int, int], seed: int, clip: float) -> None:
    image = np.random.default_rng(seed).random(shape) ** 3
    out = equalize_locally(image, clip)
    assert out.shape == shape
    assert out.min() >= 0.0
    assert out.max() <= 1.0


def test_local_equalisation_lifts_local_contrast_up_to_its_clip() -> None:
    rows = np.linspace(0.0, 1.0, 128)[:, None]
    image = np.clip(rows * 0.8 + 0.1 * (np.indices((128, 128)).sum(0) // 4 % 2), 0.0, 1.0)

    def contrast(picture: np.ndarray) -> float:
        return float(np.abs(np.diff(picture, axis=1)).mean())

    weak, strong = equalize_locally(image, 0.005), equalize_locally(image, 0.1)
    assert contrast(image) < contrast(weak) < contrast(strong)
