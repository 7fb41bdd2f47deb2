"""Writes the ledger: losses by term, weights, rates and metrics, one row an epoch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import write_row


class EpochMeans:
    """Means over cases of named scalars, by sums and counts: exact on uneven ranks."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: dict[str, Tensor], n_cases: int) -> None:
        """Add a batch's means, weighted by its number of cases."""
        for name, value in values.items():
            weighted = value.detach().double() * n_cases
            self.sums[name] = self.sums[name] + weighted if name in self.sums else weighted
        self.count += n_cases

    def totals(self) -> tuple[list[str], Tensor]:
        """Names and sums (the count last), summed over ranks: a collective call."""
        names = sorted(self.sums)
        values = [self.sums[name].cpu() for name in names]
        total = torch.stack([*values, torch.tensor(float(self.count), dtype=torch.float64)])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
            moved = total.to(device)
            torch.distributed.all_reduce(moved)
            total = moved.cpu()
        return names, total

    def compute(self) -> dict[str, float]:
        """The means, the same on every rank."""
        names, total = self.totals()
        count = max(1.0, float(total[-1]))
        return {name: float(value) / count for name, value in zip(names, total[:-1], strict=True)}

    def reset(self) -> None:
        """Start anew."""
        self.sums, self.count = {}, 0


class LedgerWriter(pl.Callback):
    """Gathers an epoch's loss terms and writes one row of metrics.csv; loggers get the same row."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.train = EpochMeans()
        self.val = EpochMeans()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """A new epoch starts its means anew (a resumed one goes on with those it had)."""
        self.train.reset()
        pl_module.epoch_values = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step's terms."""
        self.train.add(dict(pl_module.last_step.terms), len(batch["case_id"]))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Validation's means start anew."""
        self.val.reset()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the batch's terms."""
        self.val.add(dict(pl_module.last_step.terms), len(batch["case_id"]))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Losses by term on the validation split."""
        values = {f"val/loss/{name}": mean for name, mean in self.val.compute().items()}
        pl_module.epoch_values |= values

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the epoch's row, before any checkpoint of this epoch is written."""
        means = self.train.compute()
        if pl_module.adaptive is not None:
            pl_module.adaptive.end_epoch(means)
        pl_module.epoch_values |= {f"train/loss/{name}": mean for name, mean in means.items()}
        if not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch
        phase = pl_module.schedule.phase(epoch)
        head = {"epoch": epoch + 1, "phase": phase.name, "step": trainer.global_step}
        write_row(self.folder.ledger, {**head, **pl_module.epoch_values})
        for logger in trainer.loggers:
            logger.log_metrics(
                {**pl_module.epoch_values, "epoch": epoch + 1, "phase": phase.index},
                step=trainer.global_step,
            )

    def state_dict(self) -> dict[str, Any]:
        """The unfinished epoch's sums, summed over ranks: saving calls this on every rank."""
        names, total = self.train.totals()
        return {"names": names, "totals": total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Rank zero takes the sums of all ranks; the others start from zero."""
        self.train.reset()
        if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
            return
        *sums, count = state_dict["totals"]
        self.train.sums = dict(zip(state_dict["names"], sums, strict=True))
        self.train.count = int(count)
