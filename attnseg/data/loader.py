"""A DataLoader that resumes exactly, in the middle of an epoch too.

Facts of Lightning 2.6 that shaped it: the fit loop saves and restores the state of any loader
with `state_dict`/`load_state_dict`; it calls `iter(loader)` before `sampler.set_epoch(epoch)`,
hence the iteration starts with the first batch asked for, when the epoch is known; after a
checkpoint on an epoch's last batch it goes on with the next epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from attnseg.common.errors import CheckpointError
from attnseg.common.signals import worker_options
from attnseg.data.on_device import collate
from attnseg.data.sampling import EpochSampler, EvalSampler

Batch = dict[str, Any]


class ResumableLoader(DataLoader[Batch]):
    """Training batches, whose position in the epoch can be saved and restored.

    The state counts the batches handed out in the current epoch, modulo its length, and names
    the epoch: it is dropped where another epoch follows. Skipped samples are never made.
    """

    def __init__(
        self,
        dataset: Dataset[Batch],
        sampler: EpochSampler,
        *,
        batch_size: int,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._handed_out = 0
        self._resume: tuple[int, int] | None = None
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            **worker_options(num_workers),
            collate_fn=collate,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            generator=torch.Generator(),  # the global random state belongs to the training step
        )
        self._epoch_sampler = sampler

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Batches of the sampler's epoch; nothing happens before the first is asked for."""
        done = 0
        if self._resume is not None:
            epoch, done = self._resume
            done = done if epoch == self._epoch_sampler.epoch else 0
            self._resume = None
        assert self.batch_size is not None
        self._epoch_sampler.skip(done * self.batch_size)
        self._handed_out = done
        for batch in super().__iter__():
            self._handed_out += 1  # before the batch is used: a checkpoint comes after its step
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Plain integers: the epoch, the batches handed out of it, and the global batch size."""
        if self._resume is not None:  # restored, and not iterated since
            epoch, done = self._resume
        else:
            epoch, done = self._epoch_sampler.epoch, self._handed_out
        return {
            "epoch": epoch,
            "batches": done % max(len(self), 1),
            "global_batch_size": self._epoch_sampler.global_batch_size,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration of that epoch go on after the batches already handed out.

        Raises:
            CheckpointError: mid-epoch, with another global batch size (batch size x processes):
                the batches already seen are no whole number of the new ones.
        """
        size = self._epoch_sampler.global_batch_size
        if state["batches"] and state["global_batch_size"] != size:
            raise CheckpointError(
                "the checkpoint was written in the middle of an epoch with a global batch size of "
                f"{state['global_batch_size']}, but now it is {size}: resume with the same "
                "data.batch_size x processes, or from a checkpoint at an epoch's end"
            )
        self._resume = state["epoch"], state["batches"]


def eval_loader(
    dataset: Dataset[Batch],
    sampler: EvalSampler,
    *,
    batch_size: int,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Every case of the sampler's shard once, in order."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        **worker_options(num_workers),
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        generator=torch.Generator(),
    )
