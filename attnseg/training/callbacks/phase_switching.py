"""Phases: learning rates, frozen parts and loss weights as a pure function of the epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from attnseg.build import build_rates, build_schedule
from attnseg.common.console import tell
from attnseg.common.errors import ConfigError
from attnseg.config import TrainConfig
from attnseg.schedules.tabled import TabledRates
from attnseg.training.optimizers import group_of
from attnseg.training.record import record_of


class PhaseSwitching(pl.Callback):
    """Applies the schedule. It has no state: right after a resume it does what it always does."""

    def __init__(self, config: TrainConfig) -> None:
        self.optim = config.optim
        self.schedule = build_schedule(config.schedule)
        self.rates = self._rates(batches=1, accumulated=1)  # what fails, fails before data are read
        self._announced: str | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say when a phase begins."""
        self._announce(trainer.current_epoch)
        self._freeze_statistics(pl_module, trainer.current_epoch)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Now the length of an epoch is known; and a run resumed mid-epoch has no epoch start."""
        batches = max(1, int(trainer.num_training_batches))
        self.rates = self._rates(batches, trainer.accumulate_grad_batches)
        self._freeze_statistics(pl_module, trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set every group's learning rate for this step."""
        progress = trainer.current_epoch + batch_idx / max(1, int(trainer.num_training_batches))
        rates = self.learning_rates(trainer.current_epoch, progress)
        others = self.rates.others_at(progress) if isinstance(self.rates, TabledRates) else {}
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rates[group_of(group)]
            decays = group.get("weight_decay", 0.0) > 0
            group |= {k: v for k, v in others.items() if k != "weight_decay" or decays}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Note the epoch's weights, and the rates at its start, for the ledger."""
        epoch = trainer.current_epoch
        weights = self.schedule.weights(epoch, pl_module.loss.names)
        rates = self.learning_rates(epoch, float(epoch))
        used = {group_of(group) for group in trainer.optimizers[0].param_groups}
        record_of(pl_module).values |= {f"weight/{k}": float(v) for k, v in weights.items()}
        record_of(pl_module).values |= {f"lr/{name}": rates[name] for name in sorted(used)}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Drop the gradients of frozen parts.

        An optimizer leaves a parameter without a gradient alone, moments and decay included; and
        since requires_grad stays as it is, DDP's buckets need not be rebuilt when a phase ends.
        """
        frozen = self.schedule.frozen(trainer.current_epoch)
        for group in optimizer.param_groups:
            if group_of(group) in frozen:
                for parameter in group["params"]:
                    parameter.grad = None

    def learning_rates(self, epoch: int, progress: float) -> dict[str, float]:
        """Group name to learning rate at `progress` (fractional epochs since the start)."""
        curve = float(self.rates(progress))
        if not (math.isfinite(curve) and curve >= 0):
            raise ConfigError(
                f"optim.lr_schedule: gives {curve} times the base rate after {progress:g} epochs; "
                "a rate is a number of 0 or more"
            )
        phase = self.schedule.lr_factors(epoch)
        rates = {"loss": self.optim.lr * curve}
        for name in ("attention", "head", "backbone"):
            group = self.optim.lr_factors.get(name, 1.0)
            rates[name] = self.optim.lr * group * phase.get(name, 1.0) * curve
        return rates

    def _rates(self, batches: int, accumulated: int) -> Callable[[float], float]:
        total = self.schedule.total_epochs
        return build_rates(self.optim, total_epochs=total, batches=batches, accumulated=accumulated)

    def _announce(self, epoch: int) -> None:
        phase = self.schedule.phase(epoch)
        if phase.name != self._announced:
            self._announced = phase.name
            frozen = self.schedule.frozen(epoch)
            note = f", frozen: {', '.join(sorted(frozen))}" if frozen else ""
            tell(f"phase '{phase.name}' (epochs {phase.start + 1}-{phase.stop}){note}")

    def _freeze_statistics(self, pl_module: Any, epoch: int) -> None:
        """Frozen batch norms keep their running statistics, too."""
        frozen = self.schedule.frozen(epoch)
        for name, parameters in pl_module.model.parameter_groups().items():
            members = {id(parameter) for parameter in parameters}
            for part in pl_module.model.modules():
                if isinstance(part, _BatchNorm) and _belongs(part, members):
                    part.train(name not in frozen)


def _belongs(part: nn.Module, members: set[int]) -> bool:
    return any(id(parameter) in members for parameter in part.parameters(recurse=False))
