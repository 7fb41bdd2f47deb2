from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.data.sampling import (
    EpochSampler,
    EvalSampler,
    epoch_order,
    patch_corner,
    sample_generator,
)


def _batches(n: int, batch: int, rank: int, world: int, epoch: int = 0, **kwargs: float) -> list:
    sampler = EpochSampler(
        [i % 3 == 0 for i in range(n)],
        seed=5,
        batch_size=batch,
        rank=rank,
        world_size=world,
        **kwargs,  # type: ignore[arg-type]
    )
    sampler.set_epoch(epoch)
    samples = [sample for _, sample in sampler]
    assert len(samples) == len(sampler)
    return [samples[i : i + batch] for i in range(0, len(samples), batch)]


@given(st.integers(1, 40), st.integers(1, 3), st.sampled_from([1.0, 1.5, 2.0, 3.3]))
def test_an_epoch_has_every_case_and_the_wanted_share_of_positives(
    n: int, per_case: int, oversample: float
) -> None:
    positive = [i % 3 == 0 for i in range(n)]
    order = epoch_order(1, 2, positive, per_case=per_case, oversample_positive=oversample)
    assert len(set(order.tolist())) == len(order)  # a copy has an augmentation of its own
    counts = Counter(sample % n for sample in order.tolist())
    for case in range(n):
        least = int(per_case * oversample) if positive[case] else per_case
        assert least <= counts[case] <= least + (1 if positive[case] else 0)
    total = n * per_case + round((oversample - 1) * per_case * sum(positive))
    assert len(order) == total


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    positive = [True] * 20
    first = epoch_order(1, 0, positive)
    np.testing.assert_array_equal(first, epoch_order(1, 0, positive))
    assert (first != epoch_order(1, 1, positive)).any()
    assert (first != epoch_order(2, 0, positive)).any()


def test_fractional_repeats_are_drawn_anew() -> None:
    positive = [True] * 10
    extra = [
        frozenset(
            case
            for case, count in Counter(
                (epoch_order(0, epoch, positive, oversample_positive=1.5) % 10).tolist()
            ).items()
            if count == 2
        )
        for epoch in range(4)
    ]
    assert all(len(cases) == 5 for cases in extra)
    assert len(set(extra)) > 1


@given(st.integers(4, 50), st.integers(1, 3), st.integers(0, 2))
def test_two_processes_see_in_every_step_what_one_sees(n: int, half: int, epoch: int) -> None:
    one = _batches(n, 2 * half, 0, 1, epoch)
    left, right = _batches(n, half, 0, 2, epoch), _batches(n, half, 1, 2, epoch)
    assert len(left) == len(right)
    if n >= 2 * half:
        assert [sorted(a + b) for a, b in zip(left, right, strict=True)] == [
            sorted(batch) for batch in one
        ]


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 4))
def test_ranks_have_equal_batches_and_repeat_nothing(n: int, batch: int, world: int) -> None:
    ranks = [_batches(n, batch, rank, world) for rank in range(world)]
    assert len({tuple(map(len, rank)) for rank in ranks}) == 1
    samples = [sample for rank in ranks for one in rank for sample in one]
    assert len(samples) == len(set(samples))
    if n >= batch * world:
        assert len(samples) == n // (batch * world) * batch * world
    elif n >= world:
        assert len(samples) == n // world * world  # one smaller batch: never an empty epoch
    else:
        assert not samples


def test_what_one_epoch_leaves_out_another_has() -> None:
    seen = {s for epoch in range(6) for b in _batches(11, 4, 0, 1, epoch) for s in b}
    assert seen == set(range(11))


def test_skipping_is_for_the_next_iteration_only() -> None:
    sampler = EpochSampler([True] * 8, seed=0, batch_size=2)
    whole = list(sampler)
    sampler.skip(4)
    assert list(sampler) == whole[4:]
    assert list(sampler) == whole
    assert len(sampler) == 8


@given(st.integers(0, 20), st.integers(1, 4))
def test_evaluation_shards_cover_every_case_once(n: int, world: int) -> None:
    shards = [list(EvalSampler(n, rank=rank, world_size=world)) for rank in range(world)]
    assert sorted(case for shard in shards for _, case in shard) == list(range(n))
    sizes = [len(EvalSampler(n, rank=rank, world_size=world)) for rank in range(world)]
    assert sizes == [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=80)
@given(
    st.tuples(st.integers(20, 60), st.integers(20, 60)),
    st.integers(8, 64),
    st.booleans(),
    st.integers(0, 1000),
)
def test_a_patch_lies_in_the_image_and_holds_the_lesion_when_it_should(
    shape: tuple[int, int], patch: int, positive: bool, seed: int
) -> None:
    mask = np.zeros(shape, np.uint8)
    if positive:
        mask[seed % shape[0], (seed * 7) % shape[1]] = 1
    rng = np.random.default_rng(seed)
    top, left = patch_corner(rng, mask, patch, 1.0)
    for corner, side in ((top, shape[0]), (left, shape[1])):
        if side >= patch:
            assert 0 <= corner <= side - patch
        else:
            assert corner <= 0
            assert corner + patch >= side
    if positive:
        cut = mask[max(top, 0) : top + patch, max(left, 0) : left + patch]
        assert cut.sum() == 1
    # The number of draws is fixed: what is drawn next does not depend on the mask.
    other = np.random.default_rng(seed)
    patch_corner(other, np.zeros(shape, np.uint8), patch, 0.0)
    assert rng.random() == other.random()


def test_the_share_of_foreground_patches_is_the_wanted_one() -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[5:9, 5:9] = 1

    def share(foreground: float) -> float:
        hits = 0
        for sample in range(400):
            rng = sample_generator(0, 0, sample)
            top, left = patch_corner(rng, mask, 32, foreground)
            hits += bool(mask[top : top + 32, left : left + 32].any())
        return hits / 400

    assert share(1.0) == 1.0
    assert share(0.0) < 0.05
    assert share(0.5) == pytest.approx(0.5, abs=0.08)
