"""Batches augmented where the model is: what the loader would have made, but for the noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import default_collate

from attnseg.config import AugmentConfig, PatchConfig, SyntheticConfig
from attnseg.data.cache import DecodedCache
from attnseg.data.dataset import CaseDataset, TrainDataset
from attnseg.data.loader import ResumableLoader
from attnseg.data.on_device import PLAN, Plan, augment_batch, collate
from attnseg.data.sampling import EpochSampler
from attnseg.data.transforms import draw_augmentation, largest_margin
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from attnseg.training.fit import fit
from tests.conftest import configure, needs_gpu

Make = Callable[..., Any]
Key = tuple[int, int]
KEYS = [(epoch, sample) for epoch in (0, 3) for sample in range(12)]


@pytest.fixture
def cache(memory_source: Make, tmp_path: Path) -> DecodedCache:
    return DecodedCache(memory_source(6), 64, tmp_path)


def _train(cache: DecodedCache, size: int | None, *, on_device: bool, **options: Any) -> Any:
    nodules = SyntheticConfig(per_image=options.pop("per_image", 0.0))
    return TrainDataset(
        cache.source.cases(),
        cache,
        patch=PatchConfig(size=size),
        augment=AugmentConfig(on_device=on_device, **options),
        seed=1,
        synthetic=nodules,
    )


def _augmented(dataset: TrainDataset, keys: Sequence[Key]) -> dict[str, Any]:
    return augment_batch(collate([dataset[key] for key in keys]))


def _assert_alike(dataset: TrainDataset, reference: TrainDataset, keys: Sequence[Key]) -> None:
    batch, expected = _augmented(dataset, keys), default_collate([reference[key] for key in keys])
    assert batch.keys() == expected.keys()
    for name in ("xray", "drr"):
        torch.testing.assert_close(batch[name], expected[name], rtol=0, atol=1e-5)
    for name in ("mask", "content", "spacing", "index"):
        assert torch.equal(batch[name], expected[name]), name


@pytest.mark.parametrize("size", [None, 32])
@pytest.mark.parametrize("per_image", [0.0, 3.0])
def test_a_batch_is_what_the_loader_would_have_made(
    cache: DecodedCache, size: int | None, per_image: float
) -> None:
    options = {"noise": 0.0, "per_image": per_image}
    ours, loaders = (_train(cache, size, on_device=on, **options) for on in (True, False))
    plain = _train(cache, size, on_device=False, enabled=False, per_image=per_image)
    _assert_alike(ours, loaders, KEYS)
    batch = _augmented(ours, KEYS)
    unchanged = [torch.equal(batch["drr"][i], plain[key]["drr"]) for i, key in enumerate(KEYS)]
    assert sum(unchanged) < len(KEYS) / 4


@needs_gpu
@pytest.mark.parametrize("size", [None, 32])
def test_a_gpu_makes_of_a_batch_what_the_loader_would_have(
    cache: DecodedCache, size: int | None
) -> None:
    ours, loaders = (_train(cache, size, on_device=on, noise=0.0) for on in (True, False))
    batch = collate([ours[key] for key in KEYS])
    moved = {k: v.to("cuda") if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    augmented, expected = augment_batch(moved), default_collate([loaders[key] for key in KEYS])
    for name in ("xray", "drr"):
        torch.testing.assert_close(augmented[name].cpu(), expected[name], rtol=0, atol=1e-4)
    assert torch.equal(augmented["mask"].cpu(), expected["mask"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([None, 32, 64]),
    probability=st.sampled_from([0.3, 1.0]),
    rotate_deg=st.sampled_from([0.0, 10.0, 90.0]),
    blur_px=st.sampled_from([0.2, 1.0, 4.0]),
)
def test_whatever_is_drawn(seed: int, size: int | None, memory_source: Make, tmp_path: Path,
                           **options: float) -> None:  # fmt: skip
    """Images smaller than the patch too, whose padding nothing may touch."""
    cache = DecodedCache(memory_source(2, (48, 80)), 80, tmp_path)
    ours, loaders = (
        _train(cache, size, on_device=on, noise=0.0, **options) for on in (True, False)
    )
    _assert_alike(ours, loaders, [(seed, 0), (seed, 1), (seed + 1, 0)])


def test_the_loader_hands_out_what_is_not_augmented_with_room_to_turn(cache: DecodedCache) -> None:
    sample = _train(cache, 32, on_device=True)[(0, 0)]
    side = 32 + 2 * largest_margin(AugmentConfig(), 32)
    assert sample["xray"].shape == (1, side, side)
    assert isinstance(sample[PLAN], Plan)
    whole = _train(cache, None, on_device=True)[(0, 4)]
    plain = CaseDataset(cache.source.cases(), cache)[4]
    for name in ("xray", "drr", "mask"):
        assert torch.equal(whole[name], plain[name])


@given(st.integers(0, 10**6), st.floats(0, 180), st.floats(0, 0.9), st.floats(0, 1))
def test_the_margin_is_enough_for_all_that_may_be_drawn(
    seed: int, rotate_deg: float, scale: float, translate: float
) -> None:
    config = AugmentConfig(probability=0.7, rotate_deg=rotate_deg, scale=scale, translate=translate)
    drawn = draw_augmentation(config, np.random.default_rng(seed)).geometry
    assert drawn.margin(64) <= largest_margin(config, 64)


@pytest.mark.parametrize("size", [None, 32])
def test_noise_is_a_function_of_seed_epoch_and_sample(
    cache: DecodedCache, size: int | None
) -> None:
    """Whatever else is in the batch, and whatever was drawn before."""
    dataset = _train(cache, size, on_device=True, probability=0.7)
    state = torch.get_rng_state()
    together = _augmented(dataset, KEYS)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    for number in (0, 7, 13):
        alone = _augmented(dataset, [KEYS[number]])
        for name in ("xray", "drr", "mask"):
            assert torch.equal(alone[name][0], together[name][number]), name


def test_workers_hand_the_plans_on(cache: DecodedCache) -> None:
    dataset = _train(cache, 32, on_device=True)
    found = []
    for workers in (0, 2):
        sampler = EpochSampler([True] * 6, seed=1, batch_size=2)
        loader = ResumableLoader(dataset, sampler, batch_size=2, num_workers=workers)
        found.append([augment_batch(batch) for batch in loader])
    assert len(found[0]) == len(found[1]) == 3
    for one, other in zip(*found, strict=True):
        for name in ("xray", "drr", "mask"):
            assert torch.equal(one[name], other[name]), name


def test_noise_is_as_strong_as_asked_for_and_leaves_padding_and_mask(cache: DecodedCache) -> None:
    only_noise: dict[str, Any] = {"probability": 1.0, "flip": 0.0, "rotate_deg": 0.0, "scale": 0.0}
    only_noise |= {"translate": 0.0, "gamma": 0.0, "contrast": 0.0, "blur_px": 0.0, "noise": 0.3}
    dataset = _train(cache, None, on_device=True, **only_noise)
    plain = default_collate([CaseDataset(cache.source.cases(), cache)[i] for _, i in KEYS[:6]])
    batch = _augmented(dataset, KEYS[:6])
    for name in ("xray", "drr"):
        grain = batch[name] - plain[name]
        assert not grain[:, :, :8].any()  # above the 48 rows of the image
        assert not grain[:, :, 56:].any()
        for key, one in zip(KEYS, grain, strict=False):
            level = getattr(dataset[key][PLAN].augmentation, name).noise
            assert float(one[:, 8:56].std()) == pytest.approx(level, rel=0.05)
    assert torch.equal(batch["mask"], plain["mask"])
    assert not torch.equal(batch["xray"] - plain["xray"], batch["drr"] - plain["drr"])
    other = _augmented(dataset, [(1, i) for i in range(6)])
    assert not torch.equal(other["drr"], batch["drr"])


def test_images_of_another_precision_keep_it(cache: DecodedCache) -> None:
    batch = collate([_train(cache, 32, on_device=True)[key] for key in KEYS[:4]])
    for name in ("xray", "drr", "mask"):
        batch[name] = batch[name].bfloat16()
    done = augment_batch(batch)
    assert {done[name].dtype for name in ("xray", "drr", "mask")} == {torch.bfloat16}
    assert set(done["mask"].unique().tolist()) <= {0.0, 1.0}


def test_what_the_loader_augments_or_nobody_is_left_as_it_is(cache: DecodedCache) -> None:
    for dataset in (
        _train(cache, 32, on_device=False),
        CaseDataset(cache.source.cases(), cache),
    ):
        batch = collate([dataset[0], dataset[1]])
        assert augment_batch(batch) is batch


@pytest.mark.parametrize("patch", ["null", "32"])
def test_a_training_learns_from_the_same_images_either_way(patch: str, tmp_path: Path) -> None:
    """In Lightning's own loop: training batches alone, and each of them."""
    words = ("data.augment.noise=0", f"data.patch.size={patch}", "trainer.max_epochs=1")
    rows = []
    for on in ("true", "false"):
        assert fit(configure(tmp_path / on, *words, f"data.augment.on_device={on}")) == 0
        rows += read_ledger(RunFolder(tmp_path / on).ledger)
    device, loader = rows
    losses = [column for column in loader if "/loss/" in column and loader[column]]
    assert {column.split("/")[0] for column in losses} == {"train", "val"}
    for column in losses:  # AdamW's first step is all but signs of gradients
        tolerance = 1e-5 if column.startswith("train/") else 1e-3
        assert float(device[column]) == pytest.approx(float(loader[column]), rel=tolerance), column
