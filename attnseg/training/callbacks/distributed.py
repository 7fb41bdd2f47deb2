"""What several processes need: even validation, and states kept rank by rank."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch.nn.parallel import DistributedDataParallel

from attnseg.common.processes import answer_within, place


class EvenValidation(pl.Callback):
    """Lets ranks validate different numbers of cases.

    DDP broadcasts rank zero's buffers (batch-norm statistics) in every forward pass, which
    hangs as soon as one rank has a batch more. They are sent once before validation instead,
    so every rank measures the same network.
    """

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Send the buffers, then stop sending."""
        wrapped = trainer.strategy.model
        if isinstance(wrapped, DistributedDataParallel):
            for buffer in wrapped.buffers():
                torch.distributed.broadcast(buffer, src=0)
            wrapped.require_forward_param_sync = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training sends them again."""
        wrapped = trainer.strategy.model
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.require_forward_param_sync = True


class AnswerInTime(pl.Callback):
    """From the first step on no process waits longer than `timeout_s` for another.

    Before, one may have much to decode while the others have nothing to do.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All that comes now takes the ranks about as long."""
        answer_within(self.timeout_s)


def own_part(parts: list[Any]) -> Any | None:
    """This rank's part of sums that were saved rank by rank; None where it has none.

    Each rank goes on with its own, which keeps the order in which floats are added, so that a
    resumed sum is equal to the bit. On another number of processes rank zero takes them all.

    Args:
        parts: one a rank: nested dicts of numbers and tensors, all alike.
    """
    rank, world_size = place()
    if len(parts) == world_size:
        return parts[rank]
    return _total(parts) if rank == 0 else None


def _total(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        keys = sorted({key for part in parts for key in part})
        return {key: _total([part[key] for part in parts if key in part]) for key in keys}
    return sum(parts[1:], start=parts[0])
