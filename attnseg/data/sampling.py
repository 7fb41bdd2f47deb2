"""Which samples an epoch has, in which order, and where a patch is cut.

Pure functions of (seed, epoch[, sample index]). A *sample index* is case + n_cases * copy: the
copies of a case (patches, repeated positives) are augmented differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

SampleKey = tuple[int, int]
"""(epoch, sample index): all that a dataset needs to know to make a sample."""

_ORDER_STREAM = 0  # keeps the order's draws apart from those of the samples
_SAMPLE_STREAM = 1
_NODULE_STREAM = 2  # so that synthetic nodules leave a sample's other draws as they are


def sample_generator(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """The generator of everything random in one training sample."""
    return np.random.default_rng((_SAMPLE_STREAM, seed, epoch, sample))


def nodule_generator(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """The generator of the synthetic nodules of one training sample."""
    return np.random.default_rng((_NODULE_STREAM, seed, epoch, sample))


def epoch_order(
    seed: int,
    epoch: int,
    positive: Sequence[bool],
    *,
    per_case: int = 1,
    oversample_positive: float = 1.0,
) -> npt.NDArray[np.int64]:
    """Sample indices of an epoch, shuffled; always the same number of them.

    Every case gives `per_case` samples and a positive one `per_case * oversample_positive`;
    where that is no whole number, the cases that give one more are drawn anew each epoch.
    """
    rng = np.random.default_rng((_ORDER_STREAM, seed, epoch))
    n_cases = len(positive)
    cases = np.tile(np.arange(n_cases, dtype=np.int64), per_case)
    positives = np.flatnonzero(np.asarray(positive, dtype=bool))
    n_extra = round((oversample_positive - 1.0) * per_case * len(positives))
    if n_extra:
        each, rest = divmod(n_extra, len(positives))
        extra = np.concatenate([np.tile(positives, each), rng.permutation(positives)[:rest]])
        cases = np.concatenate([cases, extra])
    copies = np.zeros_like(cases)
    by_case = np.argsort(cases, kind="stable")
    sorted_cases = cases[by_case]
    copies[by_case] = np.arange(len(cases)) - np.searchsorted(sorted_cases, sorted_cases)
    order: npt.NDArray[np.int64] = rng.permutation(cases + n_cases * copies)
    return order


class EpochSampler(Sampler[SampleKey]):
    """The training order, sharded so that the number of processes does not change it.

    Consecutive global batches of `batch_size * world_size` samples are cut from `epoch_order`,
    and rank r takes the r-th slice of each: (1 process, batch 4) and (2 processes, batch 2) see
    the same samples in every step. Nothing is repeated, and all ranks have the same number of
    batches: an incomplete last global batch is left out (other cases each epoch), unless it is
    the only one; then its samples are divided evenly, so that no data set is too small.

    Args:
        positive: for every case, whether its mask has foreground.
        seed: of the run.
        batch_size: samples a process takes a step.
        per_case: samples of a case in an epoch.
        oversample_positive: how much more often positive cases appear.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        positive: Sequence[bool],
        *,
        seed: int,
        batch_size: int,
        per_case: int = 1,
        oversample_positive: float = 1.0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert 0 <= rank < world_size, f"rank {rank} of {world_size}"
        self._positive = list(positive)
        self._seed = seed
        self._batch_size = batch_size
        self._per_case = per_case
        self._oversample = oversample_positive
        self._rank = rank
        self._world_size = world_size
        self._length = len(self._shard(self._order(0)))
        self.epoch = 0
        self.global_batch_size = batch_size * world_size
        self._skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration orders; Lightning calls it."""
        self.epoch = epoch

    def skip(self, samples: int) -> None:
        """Leave out the first samples of the next iteration only: nothing decodes them."""
        self._skip = samples

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, skip, self._skip = self.epoch, self._skip, 0
        for sample in self._shard(self._order(epoch))[skip:]:
            yield epoch, int(sample)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        return epoch_order(
            self._seed,
            epoch,
            self._positive,
            per_case=self._per_case,
            oversample_positive=self._oversample,
        )

    def _shard(self, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        batch = min(self._batch_size, len(order) // self._world_size)
        if batch == 0:
            return order[:0]
        whole = len(order) // (batch * self._world_size) if batch == self._batch_size else 1
        kept = order[: whole * batch * self._world_size]
        return kept.reshape(whole, self._world_size, batch)[:, self._rank].reshape(-1)


class EvalSampler(Sampler[SampleKey]):
    """Every case once, in order, divided over the processes without repeating any.

    Shards may differ by one case; metrics must be summed by counts, not averaged by rank.
    """

    def __init__(self, n_cases: int, *, rank: int = 0, world_size: int = 1) -> None:
        assert 0 <= rank < world_size, f"rank {rank} of {world_size}"
        self._cases = range(rank, n_cases, world_size)

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[SampleKey]:
        return ((0, case) for case in self._cases)


def patch_corner(
    rng: np.random.Generator,
    mask: npt.NDArray[np.uint8],
    patch: int,
    foreground: float,
) -> tuple[int, int]:
    """Top-left corner of a patch in an image's own coordinates.

    With probability `foreground` a positive image's patch is centred within a quarter of its
    side from a mask pixel, else it is anywhere. It lies inside the image; along an axis that is
    shorter than the patch it is centred (so the corner is negative).

    Args:
        rng: drawn from a fixed number of times, so that what follows does not depend on the mask.
        mask: (H, W) 0/1.
        patch: side in px.
        foreground: in [0, 1].
    """
    wants_foreground = rng.random() < foreground
    chosen, *uniform = rng.random(3)
    jitter = (rng.random(2) - 0.5) * (patch / 2)
    pixels = np.flatnonzero(mask) if wants_foreground else np.empty(0, dtype=np.int64)
    corner = []
    for axis, side in enumerate(mask.shape):
        last = side - patch
        if last <= 0:
            corner.append(last // 2)
        elif len(pixels):
            pixel = pixels[int(chosen * len(pixels))]
            centre = divmod(int(pixel), mask.shape[1])[axis]
            corner.append(int(np.clip(round(centre + jitter[axis] - patch / 2), 0, last)))
        else:
            corner.append(int(uniform[axis] * (last + 1)))
    return corner[0], corner[1]
