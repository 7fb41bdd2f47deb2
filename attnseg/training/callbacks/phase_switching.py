"""Phases: learning rates, frozen parts and loss weights as a pure function of the epoch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from attnseg.build import build_schedule
from attnseg.common.console import tell
from attnseg.config import TrainConfig
from attnseg.schedules.rates import learning_rate_factor
from attnseg.training.record import record_of


class PhaseSwitching(pl.Callback):
    """Applies the schedule. It has no state: right after a resume it does what it always does."""

    def __init__(self, config: TrainConfig) -> None:
        self.optim = config.optim
        self.schedule = build_schedule(config.schedule)
        self._announced: str | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say when a phase begins."""
        self._announce(trainer.current_epoch)
        self._freeze_statistics(pl_module, trainer.current_epoch)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run resumed mid-epoch has no epoch start."""
        self._freeze_statistics(pl_module, trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set every group's learning rate for this step."""
        progress = trainer.current_epoch + batch_idx / max(1, int(trainer.num_training_batches))
        rates = self.learning_rates(trainer.current_epoch, progress)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rates[group["name"]]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Note the epoch's weights, and the rates at its start, for the ledger."""
        epoch = trainer.current_epoch
        weights = self.schedule.weights(epoch, pl_module.loss.names)
        rates = self.learning_rates(epoch, float(epoch))
        used = {group["name"] for group in trainer.optimizers[0].param_groups}
        record_of(pl_module).values |= {f"weight/{k}": float(v) for k, v in weights.items()}
        record_of(pl_module).values |= {f"lr/{name}": rates[name] for name in sorted(used)}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Drop the gradients of frozen parts.

        AdamW leaves a parameter without a gradient alone, moments and decay included; and since
        requires_grad stays as it is, DDP's buckets need not be rebuilt when a phase ends.
        """
        frozen = self.schedule.frozen(trainer.current_epoch)
        for group in optimizer.param_groups:
            if group["name"] in frozen:
                for parameter in group["params"]:
                    parameter.grad = None

    def learning_rates(self, epoch: int, progress: float) -> dict[str, float]:
        """Group name to learning rate at `progress` (fractional epochs since the start)."""
        curve = learning_rate_factor(
            progress, self.schedule.total_epochs, **self.optim.lr_schedule.model_dump()
        )
        phase = self.schedule.lr_factors(epoch)
        rates = {"loss": self.optim.lr * curve}
        for name in ("attention", "head", "backbone"):
            group = self.optim.lr_factors.get(name, 1.0)
            rates[name] = self.optim.lr * group * phase.get(name, 1.0) * curve
        return rates

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
