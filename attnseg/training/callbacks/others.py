"""Callbacks of Lightning or of anybody: `callbacks.<name>._target_=mylab.callbacks.Watch`."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from attnseg.build import build
from attnseg.common.errors import ConfigError
from attnseg.config import Component
from attnseg.runs.folder import RunFolder
from attnseg.training.record import record_of


def other_callback(name: str, chosen: Component, folder: RunFolder | None) -> pl.Callback:
    """Make one.

    Args:
        name: that the configuration gives it.
        chosen: its class and arguments.
        folder: the run's, if there is one; a ModelCheckpoint without a folder writes to
            `callbacks/<name>` in it, and not among the run's own checkpoints.

    Raises:
        ConfigError: its class fails, or makes no callback.
    """
    made: object = build(chosen)
    if not isinstance(made, pl.Callback):
        raise ConfigError(f"callbacks.{name}: {chosen.target} makes no Lightning Callback")
    if folder and isinstance(made, pl.callbacks.ModelCheckpoint) and made.dirpath is None:
        made.dirpath = str((folder.path / "callbacks" / name).absolute())
    return made


class PublishedMetrics(pl.Callback):
    """The epoch's values in `trainer.callback_metrics`, where other callbacks look for them."""

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """What the validation gave."""
        self._publish(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The ledger's whole row."""
        self._publish(trainer, pl_module)

    def _publish(self, trainer: pl.Trainer, pl_module: Any) -> None:
        values = record_of(pl_module).values
        trainer.callback_metrics.update(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
        )
