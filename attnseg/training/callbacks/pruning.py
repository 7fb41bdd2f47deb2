"""Tells a search how a run is going, and gives the run up where it promises little."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl

from attnseg.config import OptunaSweepConfig
from attnseg.training.callbacks.monitoring import monitored


class Pruned(Exception):
    """The search gave this run up; last.ckpt is saved, and the run could be resumed."""


class Pruning(pl.Callback):
    """Reports the objective of every validated epoch to Optuna; the pruner decides.

    The decision is acted on between epochs, when last.ckpt and the ledger are complete, and
    nothing of it is kept: after a resume the study's own record gives it again.
    """

    def __init__(self, config: OptunaSweepConfig) -> None:
        self.config = config
        self.metric = config.objectives[0].metric
        self._trial: Any = None  # rank zero's

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Open the study on rank zero."""
        if trainer.is_global_zero:
            from attnseg.training.trial import running_trial

            self._trial = running_trial(self.config)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Report this epoch's value; one that was reported before an interruption stands."""
        value = monitored(pl_module, self.metric)
        if self._trial is not None and value is not None and math.isfinite(value):
            epoch = trainer.current_epoch + 1
            reported = self._trial.study.get_trials(deepcopy=False)[self._trial.number]
            if epoch not in reported.intermediate_values:
                self._trial.report(value, epoch)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop between epochs, on all ranks at once."""
        if trainer.current_epoch == 0:
            return
        hopeless = self._trial is not None and self._trial.should_prune()
        if trainer.world_size > 1:
            hopeless = trainer.strategy.broadcast(hopeless)
        if hopeless:
            raise Pruned(f"pruned after epoch {trainer.current_epoch} by {self.metric}")
