"""Stops a run whose folder is not there any more."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from attnseg.common.errors import FolderLostError
from attnseg.common.files import may_write
from attnseg.runs.folder import RunFolder


def refuse_lost(trainer: pl.Trainer, folder: RunFolder) -> None:
    """Ask rank zero, which writes, and stop all ranks together.

    Raises:
        FolderLostError: the folder was deleted, moved or replaced.
    """
    lost = False
    try:
        may_write(folder.path)
    except FolderLostError:
        lost = True
    if trainer.world_size > 1:
        lost = bool(trainer.strategy.reduce_boolean_decision(lost, all=False))
    if lost:
        raise FolderLostError(folder.path)


class LostFolder(pl.Callback):
    """Asks at the end of an epoch, and of its validation, before anything is written."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Pictures come next."""
        refuse_lost(trainer, self.folder)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The ledger's row and the checkpoints come next."""
        refuse_lost(trainer, self.folder)
