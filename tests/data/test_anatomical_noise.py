"""Anatomical noise: another case's fine structure in a training image, and nothing in its mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnseg.config import AugmentConfig, PatchConfig
from attnseg.data.anatomical_noise import draw_anatomical_noise
from attnseg.data.cache import DecodedCache
from attnseg.data.dataset import TrainDataset
from attnseg.data.record import Decoded
from attnseg.data.synthetic import Overlay

Make = Callable[..., Any]
ALWAYS = AugmentConfig(probability=1.0, flip=0.0, anatomical_noise=0.5)


def decoded(grey: np.ndarray[Any, Any], mask: np.ndarray[Any, Any] | None = None) -> Decoded:
    """A case of one image."""
    mask = np.zeros(grey.shape, np.uint8) if mask is None else mask
    mean, std = float(grey.mean()), float(grey.std()) or 1.0
    return Decoded(grey, grey, mask, (mean, mean), (std, std), int(mask.sum()), None)


def drawn(other: Decoded, config: AugmentConfig = ALWAYS, seed: int = 0) -> Overlay | None:
    return draw_anatomical_noise(config, np.random.default_rng(seed), other.mask.shape, other)


def stripes(period: float, side: int = 128) -> Decoded:
    """A wave along the columns."""
    wave = 100 + 50 * np.sin(2 * np.pi * np.arange(side) / period)
    return decoded(np.broadcast_to(wave, (side, side)).astype(np.uint8))


def test_fine_structure_is_added_and_wide_structure_is_not() -> None:
    fine, wide = (drawn(stripes(period)) for period in (8.0, 128.0))
    assert fine is not None and wide is not None
    inside = (slice(30, -30), slice(30, -30))
    assert wide.profile[inside].std() < 0.1 * fine.profile[inside].std()
    assert abs(float(fine.profile[inside].mean())) < 0.02


def test_the_share_is_uniform_up_to_its_limit() -> None:
    other = stripes(8.0)
    whole = max(float(o.profile.std()) for seed in range(200) if (o := drawn(other, seed=seed)))
    spreads = [float(o.profile.std()) / whole for s in range(200) if (o := drawn(other, seed=s))]
    assert np.mean(spreads) == pytest.approx(0.5, abs=0.06)
    # A standardised image has a standard deviation of 1; the limit is 0.5 of its fine part.
    assert 0.4 < whole <= 0.5


def test_it_happens_with_the_probability_of_the_others() -> None:
    config = ALWAYS.model_copy(update={"probability": 0.3})
    happened = [drawn(stripes(8.0), config, seed) is not None for seed in range(400)]
    assert np.mean(happened) == pytest.approx(0.3, abs=0.07)


def test_the_other_s_lesions_are_left_out_and_it_may_be_mirrored() -> None:
    rng = np.random.default_rng(0)
    grey, mask = rng.integers(0, 255, (64, 48)).astype(np.uint8), np.zeros((64, 48), np.uint8)
    mask[10:20, 4:9] = 1
    plain = drawn(decoded(grey, mask))
    mirrored = drawn(decoded(grey, mask), ALWAYS.model_copy(update={"flip": 1.0}))
    assert plain is not None and mirrored is not None
    assert not plain.profile[10:20, 4:9].any()
    assert plain.profile[10:20, 9:14].any()
    np.testing.assert_array_equal(mirrored.profile, plain.profile[:, ::-1])


def test_images_of_another_shape_are_centred() -> None:
    rng = np.random.default_rng(0)
    other = decoded(rng.integers(0, 255, (64, 40)).astype(np.uint8))
    overlay = draw_anatomical_noise(ALWAYS, rng, (50, 64), other)
    assert overlay is not None
    image = np.zeros((50, 64), np.float32)
    overlay.brighten(image)
    np.testing.assert_array_equal(image[:, 12:52], overlay.profile[7:57])
    assert not image[:, :12].any() and not image[:, 52:].any()


@pytest.mark.parametrize("on_device", [False, True])
def test_a_training_sample_gets_it_in_both_images_and_not_in_the_mask(
    memory_source: Make, tmp_path: Path, on_device: bool
) -> None:
    cache = DecodedCache(memory_source(6), 64, tmp_path)

    def samples(**options: Any) -> list[dict[str, Any]]:
        off = {"rotate_deg": 0, "scale": 0, "translate": 0, "gamma": 0, "contrast": 0, "noise": 0}
        augment = AugmentConfig(
            **off, blur_px=0, flip=0, probability=1.0, on_device=on_device, **options
        )
        cases, patch = cache.source.cases(), PatchConfig(size=None)
        dataset = TrainDataset(cases, cache, patch=patch, augment=augment, seed=1)
        return [dataset[(epoch, 0)] for epoch in (0, 0, 1)]

    plain, *_ = samples()
    first, again, later = samples(anatomical_noise=0.5)
    added = first["drr"] - plain["drr"]
    assert added.abs().max() > 0.01
    torch.testing.assert_close(first["xray"] - plain["xray"], added, rtol=0, atol=1e-5)
    assert torch.equal(first["mask"], plain["mask"])
    assert torch.equal(first["drr"], again["drr"])
    assert not torch.equal(first["drr"], later["drr"])
    outside = torch.ones(64, 64, dtype=torch.bool)
    top, left, height, width = first["content"].tolist()
    outside[top : top + height, left : left + width] = False
    assert not first["drr"][0][outside].any()  # padding stays exactly 0
