from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from attnseg.imaging.case import CaseImages
from attnseg.imaging.resize import fit_images, fitted_shape, match_grid, resize_image, resize_mask

shapes = st.tuples(st.integers(8, 70), st.integers(8, 70))
masks = shapes.flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1), fill=st.just(0))
)


@given(shapes, st.integers(16, 128))
def test_the_longer_side_becomes_the_size_and_the_aspect_stays(
    shape: tuple[int, int], size: int
) -> None:
    fitted = fitted_shape(shape, size)
    assert max(fitted) == size
    scale = size / max(shape)
    assert all(abs(new - old * scale) <= 0.5 for new, old in zip(fitted, shape, strict=True))


@settings(max_examples=60)
@given(masks, shapes)
def test_no_lesion_vanishes_and_masks_stay_binary(mask: np.ndarray, shape: tuple[int, int]) -> None:
    resized = resize_mask(mask, shape)
    assert resized.shape == shape
    assert resized.dtype == np.uint8
    assert set(np.unique(resized)) <= {0, 1}
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    for lesion in range(1, count + 1):
        rows, columns = np.nonzero(labels == lesion)
        rows = ((rows + 0.5) * shape[0] / mask.shape[0]).astype(int)
        columns = ((columns + 0.5) * shape[1] / mask.shape[1]).astype(int)
        assert resized[rows, columns].any()
    if not mask.any():
        assert not resized.any()


def test_a_small_lesion_keeps_its_area_and_place() -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[100:102, 200:203] = 1  # 6 px, 0.375 px at a quarter of the size
    mask[300:340, 300:340] = 1
    small = resize_mask(mask, (128, 128))
    assert small[20:30, 45:55].sum() == 1
    assert small[25, 50] == 1
    assert small[70:90, 70:90].sum() == 100


def test_a_thin_line_survives_downscaling() -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[256, 10:210] = 1
    small = resize_mask(mask, (128, 128))
    assert small.sum() == round(200 / 16)


def test_downscaling_is_antialiased() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::4] = 200  # sampling every fourth pixel would see none of them, or nothing else
    small = resize_image(stripes, (16, 16))
    assert small.dtype == np.uint8
    assert np.abs(small[:, 2:-2].astype(int) - 50).max() <= 15


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_scale_one_touches_nothing(dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, 250, (30, 64)).astype(dtype)
    images = CaseImages(pixels, pixels, (pixels > 200).astype(np.uint8), (0.5, 0.6))
    assert fit_images(images, 64) is images
    half = fit_images(images, 32)
    assert half.drr.dtype == dtype
    assert half.mask.shape == (15, 32)
    assert half.spacing == pytest.approx((1.0, 1.2))


def test_the_physical_extent_is_kept() -> None:
    blank = np.zeros((379, 512), np.uint8)
    fitted = fit_images(CaseImages(blank, blank, blank, (0.7, 0.7)), 256)
    assert fitted.spacing is not None
    extent = [n * s for n, s in zip(fitted.mask.shape, fitted.spacing, strict=True)]
    assert extent == pytest.approx([379 * 0.7, 512 * 0.7])


def test_an_image_and_its_mask_move_together() -> None:
    blob = np.zeros((100, 77), np.uint8)
    blob[30:60, 20:44] = 1
    for shape in ((50, 38), (33, 26), (150, 115)):
        image = resize_image((blob * 255).astype(np.float32), shape)
        mask = resize_mask(blob, shape)
        np.testing.assert_array_equal(mask == 1, image >= 127.5)


def test_match_grid_scales_by_aspect_where_spacing_is_unknown() -> None:
    pixels = np.arange(40 * 60, dtype=np.float32).reshape(40, 60)
    matched = match_grid(pixels, None, (20, 30), (0.7, 0.7))
    assert matched is not None
    np.testing.assert_allclose(matched, resize_image(pixels, (20, 30)))
    assert match_grid(pixels, None, (20, 20), None) is None  # would be stretched


def test_match_grid_places_by_millimetres_where_spacing_is_known() -> None:
    mask = np.zeros((200, 200), np.uint8)  # 100 x 100 mm
    mask[90:110, 90:110] = 1  # 10 x 10 mm in its centre
    matched = match_grid(mask, (0.5, 0.5), (60, 80), (1.0, 1.0), is_mask=True)  # 60 x 80 mm
    assert matched is not None
    expected = np.zeros((60, 80), np.uint8)
    expected[25:35, 35:45] = 1
    np.testing.assert_array_equal(matched, expected)
    wider = match_grid(mask + np.uint8(3), (0.5, 0.5), (100, 120), (1.0, 1.0))
    assert wider is not None
    assert (wider[:, :10] == 3).all()  # outside it: its smallest value
