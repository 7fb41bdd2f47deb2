from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.data.drr import DrrRecipe, develop, equalize_locally, project_parallel, water_path

PLAIN = DrrRecipe(clahe_clip=0.0, blur_px=0.0, percentiles=(0.0, 100.0))


def _ct(shape: tuple[int, int, int] = (12, 20, 16)) -> np.ndarray:
    return np.full(shape, -1000, dtype=np.int16)


def test_water_path_is_the_thickness_of_water() -> None:
    volume = _ct()
    volume[:, 5:15, 4] = 0
    volume[:, 5:15, 8] = 1000
    path = water_path(volume, depth_mm=2.5)
    np.testing.assert_allclose(path[:, 4], 25.0)
    np.testing.assert_allclose(path[:, 8], 50.0)
    assert np.all(path[:, 0] == 0.0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_water_path_does_not_care_about_the_order_of_depth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.integers(-1024, 3000, (4, 60, 5)).astype(np.int16)
    shuffled = volume[:, rng.permutation(60)]
    assert water_path(volume, 0.7).tobytes() == water_path(shuffled, 0.7).tobytes()


def test_float_volumes_project_like_integers() -> None:
    volume = np.random.default_rng(0).integers(-1000, 900, (6, 7, 8)).astype(np.int16)
    np.testing.assert_array_equal(
        water_path(volume, 1.0), water_path(volume.astype(np.float32) + 0.2, 1.0)
    )


def test_lung_counts_as_air_at_the_threshold() -> None:
    volume = _ct()
    volume[0], volume[1] = -500, -499
    path = water_path(volume, 1.0, air_below_hu=-500.0)
    assert np.all(path[0] == 0.0)
    np.testing.assert_allclose(path[1], 20 * 0.501, rtol=1e-6)


def test_head_is_up_and_the_patients_left_stays_right() -> None:
    volume = _ct()
    volume[-2, 3, -3] = 3000  # near the head, on the patient's left
    image = project_parallel(volume, (1.0, 1.0, 1.0), recipe=PLAIN).image
    assert np.unravel_index(image.argmax(), image.shape) == (1, 13)


def test_dense_is_bright_and_in_range() -> None:
    path = np.linspace(0.0, 300.0, 64, dtype=np.float32).reshape(8, 8)
    image = develop(path, PLAIN)
    assert image.dtype == np.float32
    assert image.min() == 0.0
    assert image.max() == 1.0
    assert np.all(np.diff(image.ravel()) > 0.0)


def test_empty_volume_gives_a_finite_picture() -> None:
    assert np.isfinite(project_parallel(_ct(), (1.0, 1.0, 1.0)).image).all()


def test_mask_follows_the_same_rays_as_the_image() -> None:
    volume = _ct()
    mask = np.zeros(volume.shape, dtype=np.uint8)
    mask[2:5, 7, 9:12] = 3
    mask[4:6, 15, 9] = 1
    volume[mask > 0] = 1000
    result = project_parallel(volume, (1.0, 1.0, 1.0), mask, PLAIN)
    assert result.mask is not None
    assert result.mask.dtype == np.uint8
    np.testing.assert_array_equal(result.mask > 0, result.image > 0)
    assert set(np.unique(result.mask)) == {0, 1}


@pytest.mark.parametrize(("slice_mm", "height"), [(2.5, 42), (0.7, 12), (0.35, 6)])
def test_pixels_become_square(slice_mm: float, height: int) -> None:
    volume = np.random.default_rng(0).integers(-1000, 500, (12, 9, 16)).astype(np.int16)
    mask = np.zeros(volume.shape, dtype=bool)
    mask[:6] = True
    result = project_parallel(volume, (slice_mm, 1.0, 0.7), mask, PLAIN)
    assert result.image.shape == (height, 16)
    assert result.spacing == (0.7, 0.7)
    assert result.mask is not None
    assert result.mask[height // 2 :].all()
    assert not result.mask[: height // 2].any()


@given(
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.01, 0.03, 1.0]),
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


@pytest.mark.shared_data
def test_the_shared_ct_gives_the_published_drr() -> None:
    import SimpleITK as sitk

    data = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip(f"the shared LIDC-IDRI CT is not here ({data})")
    ct = sitk.ReadImage(str(data / "lidc_ct" / "LIDC-IDRI-0001_ct.nii.gz"))
    readers = sitk.ReadImage(str(data / "lidc_ct" / "LIDC-IDRI-0001_nodule_readers.nii.gz"))
    x, y, z = ct.GetSpacing()
    result = project_parallel(
        sitk.GetArrayFromImage(ct), (z, y, x), sitk.GetArrayFromImage(readers) >= 1
    )
    (drr_file,) = (data / "lidc_drr" / "LIDC_LDRI" / "1-200").glob("LIDC-IDRI-0001_*_drr.png")
    published = sitk.GetArrayFromImage(sitk.ReadImage(str(drr_file))).astype(float)
    mask_file = drr_file.with_name(drr_file.name.replace("_drr.png", "_drr_mask.png"))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(mask_file))) > 127
    assert result.image.shape == published.shape
    assert np.corrcoef(result.image.ravel(), published.ravel())[0, 1] > 0.99
    assert result.mask is not None
    assert 2 * (mask & (result.mask > 0)).sum() / (mask.sum() + result.mask.sum()) > 0.96
