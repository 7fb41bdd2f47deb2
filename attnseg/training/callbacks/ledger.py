"""Writes the ledger: losses by term, weights, rates and metrics, one row an epoch."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from attnseg.common.console import tell
from attnseg.common.processes import gather_from_ranks
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import Row, inspect_ledger, lost_epochs, write_row, write_rows
from attnseg.training.callbacks.distributed import own_part
from attnseg.training.record import record_of


class EpochMeans:
    """Means over cases of named scalars, by sums and counts: exact on uneven ranks."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: dict[str, Tensor], n_cases: int) -> None:
        """Add a batch's means, weighted by its number of cases."""
        for name, value in values.items():
            weighted = value.detach().double() * n_cases
            if name in self.sums:
                weighted = weighted + self.sums[name].to(weighted.device)
            self.sums[name] = weighted
        self.count += n_cases

    def compute(self) -> dict[str, float]:
        """The means over all ranks, the same on every one: a collective call."""
        parts = gather_from_ranks(self.state())
        count = max(1, sum(part["count"] for part in parts))
        return {
            name: sum(part["sums"].get(name, 0.0) for part in parts) / count
            for name in sorted({name for part in parts for name in part["sums"]})
        }

    def state(self) -> dict[str, Any]:
        """Sums and count of this rank, as plain numbers (float64, so nothing is lost)."""
        return {"sums": {name: float(s) for name, s in self.sums.items()}, "count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them back."""
        as_tensor = partial(torch.tensor, dtype=torch.float64)
        self.sums = {name: as_tensor(value) for name, value in state["sums"].items()}
        self.count = int(state["count"])

    def reset(self) -> None:
        """Start anew."""
        self.sums, self.count = {}, 0


class LedgerWriter(pl.Callback):
    """Gathers an epoch's loss terms and writes one row of metrics.csv; loggers get the same row.

    Args:
        folder: the run's; None: rows are kept in the checkpoint alone.
    """

    def __init__(self, folder: RunFolder | None) -> None:
        self.folder = folder
        self.train = EpochMeans()
        self.val = EpochMeans()
        self.rows: list[Row] | None = None  # of complete epochs; rank zero's

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Mend the file from the checkpoint's rows, where it is damaged; say what cannot be."""
        if not trainer.is_global_zero or self.folder is None:
            return
        found = inspect_ledger(self.folder.ledger)
        known = found.rows if self.rows is None else self.rows
        lost = ", ".join(lost_epochs(found.rows, known))
        missing = {str(n + 1) for n in range(trainer.current_epoch)} - {r["epoch"] for r in known}
        self.rows = [row for row in known if int(row["epoch"]) <= trainer.current_epoch]
        if not (found.problem or lost or missing):
            return
        if lost:
            told = f"the rows of epochs {lost} are mended from the checkpoint"
        elif missing:
            gone = ", ".join(sorted(missing, key=int))
            told = f"the checkpoint does not hold the rows of epochs {gone}"
        else:
            told = "nothing that the checkpoint knows of is lost"
        tell(f"note: {found.problem or f'{self.folder.ledger}: rows are missing'}; {told}")
        write_rows(self.folder.ledger, self.rows)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """A new epoch starts its means anew (a resumed one goes on with those it had)."""
        self.train.reset()
        record_of(pl_module).values = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step's terms."""
        self.train.add(dict(record_of(pl_module).step.terms), len(batch["case_id"]))

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
        self.val.add(dict(record_of(pl_module).step.terms), len(batch["case_id"]))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Losses by term on the validation split."""
        values = {f"val/loss/{name}": mean for name, mean in self.val.compute().items()}
        record_of(pl_module).values |= values

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the epoch's row, before any checkpoint of this epoch is written."""
        means = self.train.compute()
        if pl_module.adaptive is not None:
            pl_module.adaptive.end_epoch(means)
        record_of(pl_module).values |= {f"train/loss/{name}": mean for name, mean in means.items()}
        if not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch
        phase = pl_module.schedule.phase(epoch)
        head = {"epoch": epoch + 1, "phase": phase.name, "step": trainer.global_step}
        row = {**head, **record_of(pl_module).values}
        self.rows = write_row(self.folder.ledger if self.folder else None, row, self.rows)
        for logger in trainer.loggers:
            logger.log_metrics(
                {**record_of(pl_module).values, "epoch": epoch + 1, "phase": phase.index},
                step=trainer.global_step,
            )

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, and the unfinished epoch's sums, rank by rank: saving calls this on
        every rank."""
        return {"ranks": gather_from_ranks(self.train.state()), "rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back the rows (older checkpoints have none), and this rank's sums."""
        self.rows = state_dict.get("rows")
        self.train.reset()
        if (own := own_part(state_dict["ranks"])) is not None:
            self.train.restore(own)
