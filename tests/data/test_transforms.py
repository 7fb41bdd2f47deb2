from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnseg.config import AugmentConfig
from attnseg.data.cache import DecodedCache
from attnseg.data.record import Decoded
from attnseg.data.transforms import (
    IDENTITY,
    Augmentation,
    Geometry,
    Intensity,
    draw_augmentation,
    render,
)
from attnseg.imaging.window import Window, full_window


def _decoded(drr: np.ndarray, mask: np.ndarray | None = None) -> Decoded:
    mask = np.zeros(drr.shape, np.uint8) if mask is None else mask
    mean, std = float(drr.mean()), float(drr.std()) or 1.0
    return Decoded(drr, drr, mask, (mean, mean), (std, std), int(mask.sum()), None)


def _scene(shape: tuple[int, int] = (48, 64)) -> Decoded:
    """An image that is its own mask: bright where the mask is 1."""
    mask = np.zeros(shape, np.uint8)
    mask[12:22, 30:44] = 1
    mask[30:38, 10:16] = 1
    return _decoded((mask * 200 + 20).astype(np.uint8), mask)


def test_images_are_standardised_over_their_content_and_padded_with_zero() -> None:
    case = _decoded(np.random.default_rng(0).integers(0, 255, (40, 64)).astype(np.uint8))
    window = full_window((40, 64), 64)
    assert window.content((40, 64)) == (12, 0, 40, 64)
    pixels = render(case, window)
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == torch.float32
    for image in pixels[:2]:
        assert float(image[12:52].mean()) == pytest.approx(0.0, abs=1e-5)
        assert float(image[12:52].std(correction=0)) == pytest.approx(1.0, abs=1e-5)
        assert not image[:12].any()
        assert not image[52:].any()


def test_a_patch_has_the_whole_image_s_statistics() -> None:
    case = _decoded(np.random.default_rng(0).integers(0, 255, (40, 64)).astype(np.uint8))
    whole = render(case, full_window((40, 64), 64))
    patch = render(case, Window(4, 10, 32, 32))
    torch.testing.assert_close(patch, whole[:, 16:48, 10:42])


def test_a_constant_image_becomes_zero_not_nan() -> None:
    assert not render(_decoded(np.full((64, 64), 7, np.uint8)), Window(0, 0, 64, 64)).any()


@given(st.integers(0, 200))
def test_geometry_keeps_images_and_mask_aligned(seed: int) -> None:
    config = AugmentConfig(probability=1.0, gamma=0, contrast=0, noise=0, blur_px=0)
    case = _scene()
    rng = np.random.default_rng(seed)
    augmentation = draw_augmentation(config, rng)
    pixels = render(case, full_window((48, 64), 64), augmentation, rng)
    torch.testing.assert_close(pixels[0], pixels[1])
    # Bright exactly where the mask is, but for the half pixel between linear and nearest.
    threshold = ((20 + 220) / 2 - case.mean[0]) / case.std[0]
    bright = (pixels[1] > threshold).float()
    assert float((bright != pixels[2]).sum()) <= 5  # of about 188
    assert set(pixels[2].unique().tolist()) <= {0.0, 1.0}


def test_a_known_rotation_shift_and_flip() -> None:
    mask = np.zeros((65, 65), np.uint8)
    mask[32, 52] = 1  # 20 px right of the centre
    case = _decoded(mask * np.uint8(200), mask)
    window = full_window((65, 65), 65)

    def peak(geometry: Geometry) -> tuple[int, int]:
        found = render(case, window, Augmentation(geometry=geometry))[2]
        row, column = np.unravel_index(int(found.argmax()), found.shape)
        return int(row), int(column)

    assert peak(Geometry()) == (32, 52)
    assert peak(Geometry(flip=True)) == (32, 12)
    assert peak(Geometry(rotate_rad=math.pi / 2)) in {(12, 32), (52, 32)}
    assert peak(Geometry(shift=(0.0, 10 / 65))) == (32, 42)


@given(st.integers(0, 300))
def test_the_margin_is_all_that_a_patch_looks_at(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = draw_augmentation(AugmentConfig(probability=0.8), rng).geometry
    case = _decoded(rng.integers(0, 255, (96, 96)).astype(np.uint8))
    window, augmentation = Window(30, 34, 32, 32), Augmentation(geometry=drawn)
    enough = render(case, window, augmentation, margin=drawn.margin(32))
    torch.testing.assert_close(
        enough, render(case, window, augmentation, margin=31), atol=2e-3, rtol=0
    )


def test_intensity_is_drawn_for_each_image_apart_and_leaves_padding_and_mask() -> None:
    config = AugmentConfig(probability=1.0, flip=0, rotate_deg=0, scale=0, translate=0, noise=0)
    case = _scene()
    rng = np.random.default_rng(1)
    augmentation = draw_augmentation(config, rng)
    assert not augmentation.geometry.is_affine
    pixels = render(case, full_window((48, 64), 64), augmentation, rng)
    plain = render(case, full_window((48, 64), 64))
    assert (pixels[0] != pixels[1]).any()
    assert not pixels[:, :8].any()
    assert not pixels[:, 56:].any()
    torch.testing.assert_close(pixels[2], plain[2])


@pytest.mark.parametrize(
    "change",
    [Intensity(gamma=1.3), Intensity(contrast=1.2), Intensity(blur_px=1.0), Intensity(noise=0.1)],
)
def test_each_intensity_change_does_its_own(change: Intensity) -> None:
    pixels = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    before = pixels.copy()
    changed = change(pixels, np.random.default_rng(1))
    np.testing.assert_array_equal(pixels, before)  # not in place: the cache is shared
    assert changed.dtype == np.float32
    if change.gamma != 1.0:
        assert changed.min() == pytest.approx(pixels.min())
        assert changed.max() == pytest.approx(pixels.max(), rel=1e-4)
        assert (np.argsort(changed, axis=None) == np.argsort(pixels, axis=None)).mean() > 0.99
        assert changed.mean() < pixels.mean()
    elif change.contrast != 1.0:
        np.testing.assert_allclose(changed, pixels * 1.2, rtol=1e-6)
    elif change.blur_px:
        assert changed.std() < 0.5 * pixels.std()
    else:
        assert (changed - pixels).std() == pytest.approx(0.1, rel=0.05)


def test_augmentation_can_be_switched_off_and_keeps_to_its_limits() -> None:
    assert draw_augmentation(AugmentConfig(enabled=False), np.random.default_rng(0)) == IDENTITY
    config = AugmentConfig(probability=1.0)
    for seed in range(200):
        drawn = draw_augmentation(config, np.random.default_rng(seed))
        assert abs(drawn.geometry.rotate_rad) <= math.radians(10)
        assert abs(drawn.geometry.scale - 1) <= 0.15
        assert max(map(abs, drawn.geometry.shift)) <= 0.05
        for one in (drawn.xray, drawn.drr):
            assert 1 / 1.3 <= one.gamma <= 1.3
            assert abs(one.contrast - 1) <= 0.2
            assert 0 <= one.blur_px <= 1
            assert 0 <= one.noise <= 0.05
    flips = [
        draw_augmentation(config, np.random.default_rng(seed)).geometry.flip for seed in range(200)
    ]
    assert 70 < sum(flips) < 130


def test_one_option_does_not_change_another_s_numbers() -> None:
    with_all = draw_augmentation(AugmentConfig(probability=1.0), np.random.default_rng(0))
    without = draw_augmentation(
        AugmentConfig(probability=1.0, rotate_deg=0.0), np.random.default_rng(0)
    )
    assert without.geometry.rotate_rad == 0.0
    assert (without.geometry.scale, without.xray) == (with_all.geometry.scale, with_all.xray)


def test_the_cache_is_never_written_to(memory_source: Callable[..., Any], tmp_path: Path) -> None:
    source = memory_source(1, dtype=np.float32)
    cache = DecodedCache(source, 64, tmp_path)
    case = cache.get(source.cases()[0])
    before = case.drr.copy()
    rng = np.random.default_rng(0)
    drawn = draw_augmentation(AugmentConfig(probability=1.0), rng)
    render(case, full_window(case.drr.shape, 64), drawn, rng)
    np.testing.assert_array_equal(case.drr, before)
