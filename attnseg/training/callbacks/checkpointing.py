"""last.ckpt and best.ckpt."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.serialization import get_unsafe_globals_in_checkpoint

from attnseg.common.errors import ConfigError
from attnseg.config import CheckpointConfig
from attnseg.runs.folder import RunFolder
from attnseg.training.callbacks.interruption import between_steps
from attnseg.training.callbacks.lost_folder import refuse_lost
from attnseg.training.callbacks.monitoring import better, monitored


class Checkpointing(pl.callbacks.Checkpoint):
    """Writes last.ckpt after every epoch (and every n steps) and best.ckpt when a metric improves.

    Lightning's ModelCheckpoint keeps paths and versions in its state and renames what it finds;
    a run folder with two fixed names needs neither.
    """

    def __init__(self, config: CheckpointConfig, folder: RunFolder) -> None:
        self.config = config
        self.folder = folder
        self.best = -math.inf if config.mode == "max" else math.inf
        self.best_epoch: int | None = None
        self._checked = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save mid-epoch where asked; the epoch's last step is left to the epoch's end."""
        every = self.config.every_n_steps
        if every is None or not between_steps(trainer, batch_idx):
            return
        if trainer.global_step % every == 0:
            self.save_last(trainer)

    def save_last(self, trainer: pl.Trainer) -> None:
        """Save mid-epoch, on all ranks.

        Raises:
            FolderLostError: the folder is gone.
        """
        refuse_lost(trainer, self.folder)
        self._save(trainer, self.folder.last)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save what the epoch gave: the best first, so that last.ckpt knows of it."""
        value = monitored(pl_module, self.config.monitor)
        undefined = self.best_epoch is None or math.isnan(self.best)  # then the newest is best
        if value is not None and (undefined or better(value, self.best, self.config.mode)):
            self.best = value
            self.best_epoch = trainer.current_epoch + 1
            self._save(trainer, self.folder.best)
        self._save(trainer, self.folder.last)
        if trainer.is_global_zero:
            self.folder.update_status(
                epoch=trainer.current_epoch + 1, best=self.summary(), step=trainer.global_step
            )

    def _save(self, trainer: pl.Trainer, path: Path) -> None:
        """Save; the first time look whether a resume will be able to read it.

        Raises:
            ConfigError: somebody else's callback or optimizer has put an object into it.
        """
        trainer.save_checkpoint(path)
        if self._checked or not (trainer.is_global_zero and path.is_file()):
            return
        self._checked = True
        if objects := get_unsafe_globals_in_checkpoint(path):
            raise ConfigError(
                f"{path} holds {', '.join(sorted(objects))}, so it cannot be read again: nothing "
                "in a checkpoint is executed; the state of a callback or an optimizer of your own "
                "must be tensors, numbers, texts, lists and dictionaries"
            )

    def summary(self) -> dict[str, Any] | None:
        """The best value so far, for status.json."""
        if self.best_epoch is None:
            return None
        finite = self.best if math.isfinite(self.best) else None
        return {"metric": self.config.monitor, "value": finite, "epoch": self.best_epoch}

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.best = float(state_dict["best"])
        self.best_epoch = state_dict["best_epoch"]
