"""Cases as samples: whole images for evaluation, augmented patches for training.

A sample is one item of the batch that `attnseg` models and metrics know:
xray, drr, mask float32 (1, H, W); case_id, patient_id; spacing float32 (2,) mm per px at the
tensor's size (row, column; NaN where unknown); content int64 (4,) top, left, height, width of
the real image inside the tensor; index int64, the case's place in the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from attnseg.common.seeding import derive_seed
from attnseg.config import AugmentConfig, PatchConfig, SyntheticConfig
from attnseg.data.cache import DecodedCache
from attnseg.data.foreign_transforms import ForeignTransforms
from attnseg.data.on_device import PLAN, Plan
from attnseg.data.record import Decoded
from attnseg.data.sampling import SampleKey, nodule_generator, patch_corner, sample_generator
from attnseg.data.synthetic import LocationPrior, Nodule, draw_nodules
from attnseg.data.transforms import draw_augmentation, largest_margin, render
from attnseg.imaging.case import Case
from attnseg.imaging.window import Window, full_window

Sample = dict[str, Any]


class CaseDataset(Dataset[Sample]):
    """Whole images, padded to the model's square, never augmented."""

    def __init__(self, cases: Sequence[Case], cache: DecodedCache) -> None:
        self.cases = list(cases)
        self.cache = cache

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, key: int | SampleKey) -> Sample:
        index = key if isinstance(key, int) else key[1]
        case = self.cache.get(self.cases[index])
        window = full_window(case.mask.shape, self.cache.size)
        return self._sample(index, case, window, render(case, window))

    def positive(self) -> list[bool]:
        """For every case, whether its mask has foreground."""
        return [self.cache.n_foreground(case) > 0 for case in self.cases]

    def _sample(self, index: int, decoded: Decoded, window: Window, pixels: torch.Tensor) -> Sample:
        case = self.cases[index]
        return {
            "xray": pixels[0:1],
            "drr": pixels[1:2],
            "mask": pixels[2:3],
            "case_id": case.case_id,
            "patient_id": case.patient_id,
            "spacing": torch.tensor(decoded.spacing or (torch.nan, torch.nan)),
            "content": torch.tensor(window.content(decoded.mask.shape)),
            "index": torch.tensor(index),
        }


class TrainDataset(CaseDataset):
    """Augmented patches (or whole images); a sample is a pure function of (seed, epoch, sample).

    `content` and `spacing` describe a patch before rotation and scaling. With `augment.on_device`
    a sample is not augmented yet, has a margin, and a plan that `augment_batch` carries out.

    Args:
        cases: of the training split.
        cache: where their images are.
        patch: what a sample is.
        augment: what is done to it.
        seed: of the run.
        synthetic: nodules that are added.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        cache: DecodedCache,
        *,
        patch: PatchConfig,
        augment: AugmentConfig,
        seed: int,
        synthetic: SyntheticConfig | None = None,
    ) -> None:
        super().__init__(cases, cache)
        self._patch = patch
        self._augment = augment
        self._seed = seed
        self._synthetic = synthetic or SyntheticConfig()
        own = augment.transforms if augment.enabled else ()
        self.transforms = ForeignTransforms(own, seed)

    def __getitem__(self, key: int | SampleKey) -> Sample:
        epoch, sample = (0, key) if isinstance(key, int) else key
        return self.transforms(self.before_transforms(epoch, sample), epoch, sample)

    def before_transforms(self, epoch: int, sample: int) -> Sample:
        """A sample without what `augment.transforms` does to it."""
        index = sample % len(self.cases)
        side = self._patch.size
        is_whole = side is None or side >= self.cache.size
        if is_whole and not self._augment.enabled and not self._synthetic.per_image:
            return super().__getitem__(index)  # nothing is random, so nothing is drawn
        case = self.cache.get(self.cases[index])
        rng = sample_generator(self._seed, epoch, sample)
        augmentation = draw_augmentation(self._augment, rng)
        nodules = self._nodules(case, epoch, sample)
        window, margin, spare = full_window(case.mask.shape, self.cache.size), 0, 0
        if side is not None and not is_whole:
            mask = _with_nodules(case.mask, nodules)
            top, left = patch_corner(rng, mask, side, self._patch.foreground)
            window, margin = Window(top, left, side, side), augmentation.geometry.margin(side)
            spare = largest_margin(self._augment, side)
        if self._augment.on_device:
            pixels = render(case, window, margin=spare, nodules=nodules)
            made = self._sample(index, case, window, pixels)
            top, left, height, width = window.grown(margin).content(case.mask.shape)
            box = (top + spare - margin, left + spare - margin, height, width)
            noise_seed = derive_seed("noise", self._seed, epoch, sample)
            made[PLAN] = Plan(augmentation, window.width, margin, box, noise_seed)
        else:
            pixels = render(case, window, augmentation, rng, margin=margin, nodules=nodules)
            made = self._sample(index, case, window, pixels)
        if augmentation.geometry.flip:
            top, left, height, width = made["content"].tolist()
            made["content"] = torch.tensor((top, window.width - left - width, height, width))
        return made

    @cached_property
    def _prior(self) -> LocationPrior:
        return LocationPrior((self.cache.get(case).mask for case in self.cases), self.cache.size)

    def _nodules(self, case: Decoded, epoch: int, sample: int) -> list[Nodule]:
        if not self._synthetic.per_image:
            return []
        rng = nodule_generator(self._seed, epoch, sample)
        size = self.cache.size
        return draw_nodules(self._synthetic, self._prior, rng, case, size, epoch)


def _with_nodules(mask: npt.NDArray[np.uint8], nodules: Sequence[Nodule]) -> npt.NDArray[np.uint8]:
    """The mask with synthetic nodules in it; the mask itself where there are none."""
    if not nodules:
        return mask
    both = mask.copy()
    for nodule in nodules:
        nodule.mark(both)
    return both
