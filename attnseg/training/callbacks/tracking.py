"""What loggers show beside the ledger's rows: losses of single steps, cases, how a run ended."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytorch_lightning as pl

from attnseg.common.errors import FolderLostError
from attnseg.common.processes import gather_from_ranks
from attnseg.config import LoggerConfig
from attnseg.metrics.segmentation import THRESHOLDS, SegmentationMetrics
from attnseg.runs.folder import RunFolder
from attnseg.training.callbacks.alignment_metrics import AlignmentMetricsCallback
from attnseg.training.callbacks.interruption import Interrupted
from attnseg.training.callbacks.monitoring import better, monitored
from attnseg.training.loggers.described import described
from attnseg.training.loggers.media import append_step, cases_csv, steps_file, write_cases
from attnseg.training.record import record_of

Case = tuple[dict[str, Any], list[float]]
"""A case's row, and its Dice at each of THRESHOLDS: which one counts, the whole split decides."""


class Tracking(pl.Callback):
    """Losses of every n-th step to all loggers; report/cases.csv of the best validation.

    Args:
        settings: the loggers' section.
        folder: the run's.
        metrics: the callback whose per-case values are kept; it must run before this one.
    """

    def __init__(
        self, settings: LoggerConfig, folder: RunFolder, metrics: AlignmentMetricsCallback
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.metrics = metrics
        self._cases: list[Case] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Tell the loggers the configuration; W&B had it when its run was opened."""
        for logger in trainer.loggers:
            logger.log_hyperparams(described(pl_module.config, self.folder))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the step's terms, rank zero's batch alone."""
        every = self.settings.log_every_n_steps
        step = trainer.global_step
        if not (every and trainer.is_global_zero) or step == 0 or step % every:
            return
        terms = record_of(pl_module).step.terms.items()
        values = {f"step/loss/{name}": float(value) for name, value in terms}
        if self.settings.wandb:
            with suppress(FolderLostError):  # all ranks stop together when the epoch ends
                append_step(steps_file(self.folder), step, values)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start collecting."""
        self._cases = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep each case's measures."""
        if not (self.settings.wandb and record_of(pl_module).step.finite):
            return
        segmentation = self.metrics.val["segmentation"]
        assert isinstance(segmentation, SegmentationMetrics)
        dice = segmentation.last_dice.tolist()
        measures = self.metrics.val.last()
        ids = zip(batch["case_id"], batch["patient_id"], strict=True)
        for (case_id, patient_id), values, by_threshold in zip(ids, measures, dice, strict=True):
            row = {"case_id": case_id, "patient_id": patient_id, **values}
            self._cases.append((row, by_threshold))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Write the cases of all ranks where this validation is the best so far."""
        if not self.settings.wandb:
            return
        cases = [case for part in gather_from_ranks(self._cases) for case in part]
        self._cases = []
        if not (cases and trainer.is_global_zero and _is_best(trainer, pl_module)):
            return
        threshold = float(pl_module.threshold)
        at = min(range(len(THRESHOLDS)), key=lambda index: abs(THRESHOLDS[index] - threshold))
        about = {"epoch": trainer.current_epoch + 1, "threshold": threshold}
        rows = [{**row, **about, "dice": dice[at]} for row, dice in cases]
        write_cases(cases_csv(self.folder), sorted(rows, key=lambda row: str(row["case_id"])))

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Tell the loggers that want to know, before Lightning ends them."""
        stopped = isinstance(exception, (Interrupted, KeyboardInterrupt, SystemExit))
        for logger in trainer.loggers:
            ended = getattr(logger, "ended", None)
            if ended is not None:
                state = "interrupted" if stopped else "failed"
                ended(state, f"{type(exception).__name__}: {exception}")


def _is_best(trainer: pl.Trainer, pl_module: Any) -> bool:
    """Whether the checkpoint callback, which runs last, is about to write best.ckpt."""
    checkpoint: Any = trainer.checkpoint_callbacks[-1]
    value = monitored(pl_module, checkpoint.config.monitor)
    first = checkpoint.best_epoch is None or checkpoint.best != checkpoint.best
    mode = checkpoint.config.mode
    return value is not None and (first or better(value, checkpoint.best, mode))
