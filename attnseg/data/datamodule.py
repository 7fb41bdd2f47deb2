"""The LightningDataModule: source, splits, cache, samplers and loaders tied together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.paths import cache_folder
from attnseg.common.processes import place
from attnseg.config import TrainConfig
from attnseg.data.cache import DecodedCache
from attnseg.data.dataset import CaseDataset, TrainDataset
from attnseg.data.digest import Content, content_of
from attnseg.data.findings import Finding
from attnseg.data.leaks import (
    constant_images,
    shared_pictures,
    similar_patients,
    split_of_patients,
)
from attnseg.data.loader import ResumableLoader, eval_loader
from attnseg.data.on_device import augment_batch
from attnseg.data.sampling import EpochSampler, EvalSampler
from attnseg.data.sources import build_source, sound_cases
from attnseg.data.sources.base import Source
from attnseg.data.splits import SPLIT_NAMES, Splits, make_splits, training_share
from attnseg.imaging.case import Case

AnySplit = Literal["all", "train", "val", "test"]


class AttnSegDataModule(pl.LightningDataModule):
    """Batches of the data that a configuration describes.

    Args:
        config: of a run. Its `seed` fixes, with the epoch, the order and the augmentation; which
            patient is in which split depends on `data.split.seed` alone.
        source: instead of the one that `config.data` describes.
        progress: draw a bar while cases are decoded for the first time.

    Raises:
        ConfigError, DataError: as the source and `make_splits`.
    """

    def __init__(
        self, config: TrainConfig, *, source: Source | None = None, progress: bool = True
    ) -> None:
        super().__init__()
        # A validation set may have fewer cases than there are processes.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.config = config.data
        self.seed = config.seed
        self.source = source if source is not None else build_source(self.config)
        self._cache_folder = cache_folder(self.config.cache_dir)
        self.cache = DecodedCache(self.source, self.config.size, self._cache_folder)
        self._progress = progress

    @cached_property
    def all_cases(self) -> list[Case]:
        """Every case of the source, in its order; a data set with problems is refused."""
        return sound_cases(self.source)

    @cached_property
    def splits(self) -> Splits:
        """The cases by split, divided by patient; of those to train on, `train_fraction`."""
        splits = make_splits(self.all_cases, self.config.split)
        return replace(splits, train=training_share(splits.train, self.config.split))

    def refuse_similar_patients(self) -> list[str]:
        """What to tell about patient ids that differ by spelling alone; nothing is decoded.

        Raises:
            DataError: such patients are in different splits.
        """
        return _warnings(
            "one patient is in two splits, if spelling means nothing:",
            similar_patients(self._split_of_patients),
        )

    def refuse_shared_pictures(self) -> None:
        """Compare all pictures by what the cache tells of them; no image is read.

        Raises:
            DataError: a picture is of two patients, or an image has one value.
        """
        sketches = self.cache.sketches(self.all_cases)
        _warnings(
            "pictures of the data set cannot be trained on (`attnseg data check` tells more):",
            [
                *shared_pictures(self.all_cases, sketches, self._split_of_patients),
                *constant_images(self.all_cases, sketches),
            ],
        )

    @property
    def _split_of_patients(self) -> dict[str, str]:
        return split_of_patients(make_splits(self.all_cases, self.config.split))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of which cases there are, wherever they lie: names, patients, splits."""
        digest = hashlib.sha256()
        for case in self.all_cases:
            files = [path and path.name for path in (case.drr, case.xray, case.mask)]
            digest.update(repr([case.case_id, case.patient_id, case.split, *files]).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def content(self) -> Content:
        """What the training and validation cases are made of, and its digest.

        Raises:
            DataError: files cannot be read; all of them are listed.
        """
        return self._content({"train": self.splits.train, "val": self.splits.val})

    def content_of(self, cases: Sequence[Case]) -> Content:
        """The same of any cases, in their order."""
        return self._content({"": cases})

    def _content(self, splits: Mapping[str, Sequence[Case]]) -> Content:
        progress = self._progress and self._place()[0] == 0
        return content_of(self.source, splits, self._cache_folder, progress=progress)

    def prepare_data(self) -> None:
        """Decode every case into the cache; Lightning calls it on one process a node."""
        self.cache.warm(self.all_cases, progress=self._progress)

    def setup(self, stage: str | None = None) -> None:
        """Divide the patients and make sure that every case is decoded."""
        if stage in ("fit", None):
            _ = self.splits
        self.cache.warm(self.all_cases, progress=self._progress and self._place()[0] == 0)

    def cases(self, split: AnySplit) -> list[Case]:
        """The cases of a split; `all` divides nothing."""
        return self.all_cases if split == "all" else self.splits[split]

    def dataset(self, split: AnySplit) -> CaseDataset:
        """Whole images of a split in the source's order, never augmented."""
        return CaseDataset(self.cases(split), self.cache)

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, augmented patches; resumable in the middle of an epoch."""
        config = self.config
        dataset = TrainDataset(
            self.splits.train,
            self.cache,
            patch=config.patch,
            augment=config.augment,
            seed=self.seed,
            synthetic=config.synthetic,
        )
        rank, world_size = self._place()
        sampler = EpochSampler(
            dataset.positive(),
            seed=self.seed,
            batch_size=config.batch_size,
            per_case=config.patch.per_case,
            oversample_positive=config.oversample_positive,
            rank=rank,
            world_size=world_size,
        )
        if len(sampler) == 0:
            raise ConfigError(
                f"{len(dataset)} training cases cannot be shared by {world_size} processes: "
                "lower trainer.devices or raise data.patch.per_case"
            )
        return ResumableLoader(
            dataset,
            sampler,
            # A data set smaller than a batch makes one batch of what there is.
            batch_size=min(config.batch_size, len(sampler)),
            num_workers=config.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Augment a training batch that the loader did not; Lightning calls it on the device."""
        return augment_batch(batch)

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        """Whole images of the validation split; an empty list where it is empty."""
        return self.eval_dataloader("val") if self.splits.val else []

    def test_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        """Whole images of the test split; an empty list where it is empty."""
        return self.eval_dataloader("test") if self.splits.test else []

    def eval_dataloader(
        self, split: AnySplit, *, batch_size: int | None = None
    ) -> DataLoader[dict[str, Any]]:
        """Whole images of a split, each once over all processes, in order."""
        return self.loader_of(self.cases(split), batch_size=batch_size)

    def loader_of(
        self,
        cases: Sequence[Case],
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
    ) -> DataLoader[dict[str, Any]]:
        """Whole images of these cases, each once over all processes, in order."""
        rank, world_size = self._place()
        return eval_loader(
            CaseDataset(cases, self.cache),
            EvalSampler(len(cases), rank=rank, world_size=world_size),
            batch_size=batch_size or self.config.eval_batch_size,
            num_workers=self.config.num_workers if num_workers is None else num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    @property
    def train_patients(self) -> list[str]:
        """The ids of the patients that are trained on, sorted."""
        return sorted({case.patient_id for case in self.splits.train})

    @property
    def record(self) -> dict[str, Any]:
        """What a run and its checkpoints remember of the data; plain types only."""
        return {
            "source": dict(self.source.record),
            "fingerprint": self.fingerprint,
            "size": self.config.size,
            "split": self.config.split.model_dump(mode="json"),
            "splits": {name: self._count(self.splits[name]) for name in SPLIT_NAMES},
        }

    def _count(self, cases: list[Case]) -> dict[str, int]:
        return {
            "cases": len(cases),
            "patients": len({case.patient_id for case in cases}),
            "positives": sum(CaseDataset(cases, self.cache).positive()),
        }

    def _place(self) -> tuple[int, int]:
        """(rank, number of processes)."""
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        return place()


def _warnings(headline: str, findings: Sequence[Finding]) -> list[str]:
    """The warnings among findings; the errors are raised."""
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        raise DataError(headline, errors)
    return [finding.message for finding in findings]
