"""Synthetic nodules: keyed, placed where nodules lie, and added to images and mask alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from attnseg.config import AugmentConfig, PatchConfig, SyntheticConfig
from attnseg.data.cache import DecodedCache
from attnseg.data.dataset import TrainDataset
from attnseg.data.record import Decoded
from attnseg.data.synthetic import LocationPrior, Nodule, draw_nodules

Make = Callable[..., Any]
EMPTY = np.zeros((96, 128), dtype=np.uint8)


def case(mask: np.ndarray = EMPTY, drr: np.ndarray | None = None) -> Decoded:
    """A grey image, or `drr`, standardised as it is."""
    image = np.zeros(mask.shape, np.float32) if drr is None else drr
    return Decoded(image, image, mask, (0.0, 0.0), (1.0, 1.0), int(mask.sum()), None)


NOWHERE = LocationPrior([], 128)
MANY = SyntheticConfig(per_image=6.0, easier=1.0)


def drawn(config: SyntheticConfig, *, seed: int = 0, epoch: int = 0, **more: Any) -> list[Nodule]:
    prior, shown = more.get("prior", NOWHERE), case(more.get("mask", EMPTY), more.get("drr"))
    return draw_nodules(config, prior, np.random.default_rng(seed), shown, 128, epoch)


def test_the_mean_number_is_what_was_asked_for() -> None:
    counts = [len(drawn(MANY, seed=seed)) for seed in range(300)]
    assert np.mean(counts) == pytest.approx(6.0, abs=0.5)
    assert drawn(SyntheticConfig()) == []


def test_diameters_are_given_at_512_px() -> None:
    config = SyntheticConfig(per_image=50.0, diameter_px=(40.0, 40.0))
    areas = [nodule.outline.sum() for nodule in drawn(config)]
    # 40 px at 512 are 10 px at 128; the axes' ratio is 0.7 to 1, 0.85 on average.
    assert np.mean(areas) == pytest.approx(np.pi * 25 * 0.85, rel=0.1)


def test_the_peak_is_proportional_to_the_diameter() -> None:
    for diameter in (40.0, 80.0):
        config = SyntheticConfig(
            per_image=9.0,
            diameter_px=(diameter, diameter),
            contrast=0.01,
            contrast_spread=0.0,
            easier=1.0,
        )
        peaks = [nodule.profile.max() for nodule in drawn(config)]
        assert np.mean(peaks) == pytest.approx(0.01 * diameter, rel=0.1)


@pytest.mark.parametrize(
    "soft", [{"margin_px": (8.0, 8.0)}, {"power": (1.5, 1.5)}, {"blur_px": (8.0, 8.0)}]
)
def test_a_soft_nodule_fades_before_its_outline(soft: dict[str, Any]) -> None:
    wide = {"per_image": 9.0, "diameter_px": (80.0, 80.0), "contrast_spread": 0.0}
    solid = drawn(SyntheticConfig(**wide))
    softer = drawn(SyntheticConfig(**wide, **soft))
    assert [n.outline.tobytes() for n in softer] == [n.outline.tobytes() for n in solid]
    for one, other in zip(softer, solid, strict=True):
        rim = one.outline & ~ndimage.binary_erosion(one.outline, iterations=2)
        assert one.profile[rim].mean() < 0.92 * other.profile[rim].mean()
        assert one.profile.max() > 0.7 * other.profile.max()


def test_softness_is_drawn_for_every_nodule_and_given_at_512_px() -> None:
    config = SyntheticConfig(
        per_image=30.0,
        diameter_px=(60.0, 60.0),
        contrast_spread=0.0,
        margin_px=(0.0, 9.0),
        power=(0.5, 2.0),
        blur_px=(0.5, 4.0),
    )
    shares = [(n.profile[n.outline] / n.profile.max()).mean() for n in drawn(config)]
    assert np.std(shares) > 0.05
    small, large = (
        draw_nodules(
            config,
            NOWHERE,
            np.random.default_rng(3),
            case(np.zeros((size, size), np.uint8)),
            size,
            0,
        )[0]
        for size in (128, 512)
    )
    shares = [(n.profile[n.outline] / n.profile.max()).mean() for n in (small, large)]
    assert shares[0] == pytest.approx(shares[1], rel=0.1)


def test_a_nodule_is_fainter_where_the_image_is_bright() -> None:
    config = MANY.model_copy(update={"bright_contrast": 0.25, "contrast_spread": 0.0})
    solid = [n.profile.max() for n in drawn(config.model_copy(update={"bright_contrast": 1.0}))]
    for grey, share in ((-3.0, 1.0), (-1.0, 1.0), (0.0, 0.625), (1.0, 0.25), (2.0, 0.25)):
        made = drawn(config, drr=np.full(EMPTY.shape, grey, np.float32))
        np.testing.assert_allclose([n.profile.max() for n in made], share * np.array(solid), 1e-5)
    half = np.where(np.arange(128) < 64, -1.0, 1.0).astype(np.float32) * np.ones(
        (96, 1), np.float32
    )
    made = drawn(config.model_copy(update={"diameter_px": (20.0, 20.0)}), drr=half)
    by_side = {n.left < 60: n.profile.max() for n in made}
    assert by_side[True] > 2 * by_side[False]


def test_the_axes_ratio_is_drawn() -> None:
    for ratio in (0.3, 1.0):
        config = SyntheticConfig(
            per_image=20.0, diameter_px=(60.0, 60.0), axis_ratio=(ratio, ratio)
        )
        areas = [nodule.outline.sum() for nodule in drawn(config)]
        assert np.mean(areas) == pytest.approx(np.pi * 7.5**2 * ratio, rel=0.15)


@pytest.mark.parametrize("name", ["axis_ratio", "margin_px", "power", "blur_px"])
@pytest.mark.parametrize("ends", [[0.9, 0.8], [-0.1, 0.8], [0.9, 21.0]])
def test_a_range_that_falls_or_cannot_be_drawn_is_refused(name: str, ends: list[float]) -> None:
    with pytest.raises(ValidationError, match=f"{name}: expected 0.* <= least <= largest"):
        SyntheticConfig.model_validate({name: ends})


def test_a_flat_profile_is_refused() -> None:
    """0 to the power of 0 is 1: it would fill the square around the nodule."""
    with pytest.raises(ValidationError, match=r"power: expected 0\.1"):
        SyntheticConfig(power=(0.0, 1.0))


def test_it_gets_harder_until_easier_epochs() -> None:
    config = MANY.model_copy(update={"easier": 8.0, "easier_epochs": 3})
    brightness = [sum(n.profile.sum() for n in drawn(config, epoch=e)) for e in range(5)]
    ratios = np.array(brightness) / brightness[-1]
    np.testing.assert_allclose(ratios, [8.0, 4.0, 2.0, 1.0, 1.0], rtol=1e-4)


def test_no_synthetic_nodule_overlaps_a_real_one() -> None:
    mask = np.zeros_like(EMPTY)
    mask[:, 40:90] = 1
    config = MANY.model_copy(update={"per_image": 60.0})
    nodules = drawn(config, mask=mask)
    assert 0 < len(nodules) < len(drawn(config))
    for nodule in nodules:
        outlined = np.zeros_like(mask)
        nodule.mark(outlined)
        assert not (outlined * mask).any()


def test_nodules_lie_where_the_training_masks_say_on_either_side() -> None:
    mask = np.zeros_like(EMPTY)
    mask[20:24, 16:20] = 1  # rows 36-40, columns 16-20 of the square
    prior = LocationPrior([mask, EMPTY], 128)
    rng = np.random.default_rng(0)
    places = np.array([prior.draw(rng, (96, 128)) for _ in range(400)])
    assert np.abs(places[:, 0] - 22).max() < 20
    left = places[:, 1] < 64
    assert 0.4 < left.mean() < 0.6
    assert np.abs(places[left, 1] - 18).max() < 20
    assert np.abs(places[~left, 1] - 110).max() < 20


@settings(max_examples=30, deadline=None)
@given(
    top=st.integers(-40, 140),
    left=st.integers(-40, 140),
    origin=st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
def test_a_part_of_an_image_gets_the_part_of_the_nodule(
    top: int, left: int, origin: tuple[int, int]
) -> None:
    """Adding to a window equals adding to the whole image and cutting the window out."""
    shape = np.ones((9, 7))
    nodule = Nodule(top, left, shape.astype(np.float32), shape > 0)
    image, mask = np.zeros((100, 110), np.float32), np.zeros((100, 110), np.float32)
    nodule.brighten(image)
    nodule.mark(mask)
    part, part_mask = np.zeros((50, 60), np.float32), np.zeros((50, 60), np.float32)
    nodule.brighten(part, origin)
    nodule.mark(part_mask, origin)
    window = (slice(origin[0], origin[0] + 50), slice(origin[1], origin[1] + 60))
    np.testing.assert_array_equal(part, image[window])
    np.testing.assert_array_equal(part_mask, mask[window])


@pytest.fixture
def cache(memory_source: Make, tmp_path: Path) -> DecodedCache:
    return DecodedCache(memory_source(6), 64, tmp_path)


def dataset(cache: DecodedCache, synthetic: SyntheticConfig, **patch: Any) -> TrainDataset:
    return TrainDataset(
        cache.source.cases(),
        cache,
        patch=PatchConfig(**patch),
        augment=AugmentConfig(enabled=False),
        seed=1,
        synthetic=synthetic,
    )


def test_both_images_get_the_same_nodule_and_the_mask_its_outline(cache: DecodedCache) -> None:
    bright = MANY.model_copy(update={"contrast": 0.5})
    plain, added = dataset(cache, SyntheticConfig()), dataset(cache, bright)
    without, having = plain[(0, 1)], added[(0, 1)]
    assert plain.positive() == added.positive() == [True, False, True, False, True, False]
    change = having["xray"] - without["xray"]
    torch.testing.assert_close(change, having["drr"] - without["drr"], rtol=0, atol=1e-5)
    new = (having["mask"] > without["mask"]).squeeze(0)
    assert new.any()
    assert change[0][new].mean() > 20 * change[0][~new].abs().mean()
    assert (having["mask"] >= without["mask"]).all()


def test_a_sample_is_a_function_of_seed_epoch_and_sample(cache: DecodedCache) -> None:
    first, again = dataset(cache, MANY), dataset(cache, MANY)
    torch.testing.assert_close(first[(2, 3)]["drr"], again[(2, 3)]["drr"], rtol=0, atol=0)
    assert (first[(2, 3)]["drr"] != first[(3, 3)]["drr"]).any()
    assert (first[(2, 3)]["drr"] != first[(2, 9)]["drr"]).any()


def test_patches_are_centred_near_synthetic_nodules_too(cache: DecodedCache) -> None:
    """A negative case (1) has no other foreground."""
    one = SyntheticConfig(per_image=1.0, diameter_px=(8.0, 8.0))

    def shown(share: float) -> int:
        patches = dataset(cache, one, size=32, foreground=share)
        return sum(bool(patches[(epoch, 1)]["mask"].any()) for epoch in range(80))

    whole = dataset(cache, one)
    assert shown(1.0) == sum(bool(whole[(epoch, 1)]["mask"].any()) for epoch in range(80))
    assert shown(0.0) < shown(1.0)


@pytest.mark.parametrize("diameter", [(0.0, 10.0), (12.0, 6.0), (6.0, 900.0)])
def test_impossible_diameters_are_refused(diameter: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="diameter_px"):
        SyntheticConfig(diameter_px=diameter)
