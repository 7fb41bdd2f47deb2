from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from attnseg.config import AugmentConfig, PatchConfig
from attnseg.data.cache import DecodedCache
from attnseg.data.dataset import CaseDataset, TrainDataset

Make = Callable[..., Any]


@pytest.fixture
def cache(memory_source: Make, tmp_path: Path) -> DecodedCache:
    return DecodedCache(memory_source(6), 64, tmp_path)


def _train(cache: DecodedCache, size: int | None = 32, seed: int = 1, **options: Any) -> Any:
    patch = PatchConfig(size=size, foreground=options.pop("foreground", 0.5))
    augment = AugmentConfig(**options)
    return TrainDataset(cache.source.cases(), cache, patch=patch, augment=augment, seed=seed)


def test_a_batch_is_what_the_models_expect(cache: DecodedCache) -> None:
    dataset = CaseDataset(cache.source.cases(), cache)
    batch = default_collate([dataset[i] for i in (0, 1, 2)])
    for name in ("xray", "drr", "mask"):
        assert batch[name].shape == (3, 1, 64, 64)
        assert batch[name].dtype == torch.float32
    assert batch["case_id"] == ["case0", "case1", "case2"]
    assert batch["patient_id"] == ["patient0", "patient1", "patient2"]
    assert batch["spacing"].dtype == torch.float32
    assert batch["spacing"].tolist() == [[0.5, 0.5]] * 3
    assert batch["content"].dtype == torch.int64
    assert batch["content"].tolist() == [[8, 0, 48, 64]] * 3
    assert batch["index"].tolist() == [0, 1, 2]
    assert batch["mask"][0, 0, 18:24, 20:26].all()
    assert float(batch["mask"].sum()) == 72.0
    assert dataset.positive() == [True, False, True, False, True, False]


def test_unknown_spacing_is_nan(memory_source: Make, tmp_path: Path) -> None:
    source = memory_source(1)
    images = source.load(source.cases()[0])
    source.load = lambda case: type(images)(images.xray, images.drr, images.mask, None)
    sample = CaseDataset(source.cases(), DecodedCache(source, 64, tmp_path))[0]
    assert sample["spacing"].isnan().all()
    assert sample["spacing"].shape == (2,)


def test_a_training_sample_is_a_function_of_seed_epoch_and_sample(cache: DecodedCache) -> None:
    first, again = _train(cache), _train(cache)
    torch.testing.assert_close(first[(3, 4)]["xray"], again[(3, 4)]["xray"], rtol=0, atol=0)
    for other in (again[(4, 4)], again[(3, 10)], _train(cache, seed=2)[(3, 4)]):
        assert other["case_id"] == "case4"
        assert (other["xray"] != first[(3, 4)]["xray"]).any()


def test_it_leaves_the_global_random_states_alone(cache: DecodedCache) -> None:
    def global_states() -> tuple[bytes, bytes]:
        legacy: Any = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().numpy().tobytes(), legacy[1].tobytes()

    before = global_states()
    sample = _train(cache)[(0, 0)]["drr"]
    assert global_states() == before
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    torch.testing.assert_close(_train(cache)[(0, 0)]["drr"], sample, rtol=0, atol=0)


def test_foreground_patches_show_the_lesion(cache: DecodedCache) -> None:
    dataset = _train(cache, foreground=1.0)
    for sample in range(0, 600, 6):  # copies of case 0, which is positive
        assert dataset[(0, sample)]["mask"].any()


def test_without_augmentation_a_patch_is_a_cut_of_the_whole_image(cache: DecodedCache) -> None:
    whole = CaseDataset(cache.source.cases(), cache)[2]
    for sample in (2, 8, 14):
        patch = _train(cache, enabled=False)[(0, sample)]
        assert patch["content"].tolist() == [0, 0, 32, 32]
        views = whole["drr"][0].unfold(0, 32, 1).unfold(1, 32, 1)
        assert (views == patch["drr"][0]).flatten(2).all(-1).any()


def test_a_turned_patch_shows_the_image_up_to_its_corners(
    memory_source: Make, tmp_path: Path
) -> None:
    cache = DecodedCache(memory_source(1, (256, 256)), 256, tmp_path)
    dataset = _train(cache, probability=1.0, noise=0.0, foreground=0.0)
    with_padding = sum(bool((dataset[(0, i)]["drr"] == 0).any()) for i in range(60))
    assert with_padding < 20  # those near the image's border; without a margin all


@pytest.mark.parametrize("size", [None, 64])
def test_the_whole_image_is_a_sample_too(cache: DecodedCache, size: int | None) -> None:
    plain = CaseDataset(cache.source.cases(), cache)[3]
    sample = _train(cache, size, enabled=False)[(5, 3)]
    torch.testing.assert_close(sample["xray"], plain["xray"])
    assert sample["content"].tolist() == plain["content"].tolist()


def test_a_patch_larger_than_the_image_is_padded_and_its_content_follows_the_flip(
    memory_source: Make, tmp_path: Path
) -> None:
    cache = DecodedCache(memory_source(2, (96, 49)), 96, tmp_path)
    only_flip: dict[str, Any] = {"probability": 0.0, "flip": 1.0}
    flipped = _train(cache, 64, **only_flip)[(0, 1)]
    plain = _train(cache, 64, probability=0.0, flip=0.0)[(0, 1)]
    assert plain["content"].tolist() == [0, 8, 64, 49]
    assert flipped["content"].tolist() == [0, 7, 64, 49]
    torch.testing.assert_close(flipped["drr"], plain["drr"].flip(-1))
    top, left, height, width = flipped["content"].tolist()
    outside = flipped["drr"].clone()
    outside[:, top : top + height, left : left + width] = 0
    assert not outside.any()
