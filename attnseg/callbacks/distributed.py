"""What DistributedDataParallel needs around validation."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch.nn.parallel import DistributedDataParallel


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
