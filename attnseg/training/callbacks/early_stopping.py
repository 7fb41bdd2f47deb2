"""Early stopping that knows phases."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl

from attnseg.common.console import tell
from attnseg.config import EarlyStoppingConfig
from attnseg.training.callbacks.monitoring import better, monitored


class PhaseEarlyStopping(pl.Callback):
    """Stops when the monitored metric has not improved for `patience` validated epochs.

    The best value and the count start anew with every phase, since a phase changes what is
    optimised; unless `last_phase_only` is off, only the last phase can end a run.
    """

    def __init__(self, config: EarlyStoppingConfig) -> None:
        self.config = config
        self.phase = -1
        self.best = -math.inf if config.mode == "max" else math.inf
        self.waited = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Count, after the epoch's validation; every rank sees the same value."""
        value = monitored(pl_module, self.config.monitor)
        if value is None:
            return
        phase = pl_module.schedule.phase(trainer.current_epoch)
        if phase.index != self.phase:
            self.phase = phase.index
            self.best = -math.inf if self.config.mode == "max" else math.inf
            self.waited = 0
        if better(value, self.best, self.config.mode, self.config.min_delta):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        last = phase.index == len(pl_module.schedule.phases) - 1
        if self.waited >= self.config.patience and (last or not self.config.last_phase_only):
            tell(
                f"early stopping: {self.config.monitor} has not improved on {self.best:.4f} for "
                f"{self.waited} epochs of phase '{phase.name}'"
            )
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Phase, best value and count: plain numbers."""
        return {"phase": self.phase, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        self.phase = int(state_dict["phase"])
        self.best = float(state_dict["best"])
        self.waited = int(state_dict["waited"])
