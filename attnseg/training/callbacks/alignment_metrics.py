"""Every metric, every epoch: whether attention, segmentation and ground truth agree."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torchmetrics import MetricCollection

from attnseg.common.finite import derived
from attnseg.common.processes import gather_from_ranks
from attnseg.config.measures import RECORD
from attnseg.metrics.batch import Batch
from attnseg.metrics.collection import TrainingMetrics, ValidationMetrics
from attnseg.metrics.named import NamedMetrics
from attnseg.runs.folder import RunFolder
from attnseg.training.callbacks.distributed import own_part
from attnseg.training.record import record_of


class AlignmentMetricsCallback(pl.Callback):
    """Measures training batches (augmented patches, as the network saw them) and the validation
    split (whole images), and keeps the threshold that is best on the latter.

    The values go into the ledger and into `trainer.callback_metrics`, as `train/<metric>` and
    `val/<metric>`. All states are sums and rows that gather exactly over uneven ranks.

    Args:
        every_n_steps: measure every n-th training batch of an epoch, the first one included.
        named: what the configuration adds; they measure the validation split.
        folder: the run's, whose status.json says what they mean; None: there is none.
    """

    train: TrainingMetrics
    val: ValidationMetrics

    def __init__(self, every_n_steps: int, named: NamedMetrics, folder: RunFolder | None) -> None:
        self.every_n_steps = every_n_steps
        self.named = named
        self.folder = folder
        self._restored: dict[str, Any] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Build the metrics that the model can have."""
        has_attention = pl_module.model.has_attention
        self.train = TrainingMetrics(has_attention=has_attention)
        self.val = ValidationMetrics(has_attention=has_attention)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Onto the model's device; a resume mid-epoch goes on with what was summed."""
        self.train.to(pl_module.device)
        self.val.to(pl_module.device)
        self.named.to(pl_module.device)
        if self.folder and trainer.is_global_zero and (told := self.named.record()):
            self.folder.update_status(**{RECORD: told})
        if self._restored is not None:
            _fill(self.train, self._restored)
        self._restored = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """A new epoch."""
        self.train.reset()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add what the step saw."""
        due = (
            batch_idx % self.every_n_steps == 0
        )  # a function of the step: a resume changes nothing
        if due and record_of(pl_module).step.finite:
            self.train.update(**_maps(record_of(pl_module).step))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """A new validation."""
        self.val.reset()
        self.named.reset()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the batch; one that is not finite ends the run when the validation does."""
        step = record_of(pl_module).step
        if step.finite:
            self.val.update(**_maps(step))
            self.named.update(step.output, Batch.of(step.batch, pl_module.device))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compute over all ranks; every rank gets the same values."""
        values = self.val.compute()
        if not math.isnan(values["best_threshold"]):
            pl_module.threshold = float(values["best_threshold"])
        self._publish(pl_module, "val", {**values, **self.named.compute(values)})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compute over all ranks."""
        self._publish(pl_module, "train", self.train.compute())

    def _publish(self, pl_module: Any, split: str, values: dict[str, Any]) -> None:
        named = {f"{split}/{name}": float(value) for name, value in values.items()}
        record_of(pl_module).values |= named
        # Equal on every rank already, so nothing is left to reduce.
        single = {key: torch.tensor(value, dtype=torch.float32) for key, value in named.items()}
        pl_module.log_dict(single, logger=False, rank_zero_only=True)

    def state_dict(self) -> dict[str, Any]:
        """The unfinished epoch's states, rank by rank: saving calls this on every rank."""
        own = {
            str(name): {
                key: getattr(metric, key).detach().cpu().clone() for key in metric._defaults
            }
            for name, metric in self.train.items(copy_state=False)
        }
        return {"ranks": gather_from_ranks(own)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """This rank's, kept until the metrics exist and are where they belong."""
        self._restored = own_part(state_dict["ranks"])


def _maps(step: Any) -> dict[str, Any]:
    """What every metric's update asks for, of a step whose maps are finite."""
    return {
        "attention": derived(step.output.attention.float()),
        "probability": derived(step.output.mask_logits.float().sigmoid()),
        "mask": step.batch["mask"],
        "spacing": step.batch["spacing"],
        "case_ids": step.batch["case_id"],
    }


def _fill(metrics: MetricCollection, state: dict[str, Any]) -> None:
    for name, metric in metrics.items(copy_state=False):
        for key, value in state[str(name)].items():
            setattr(metric, key, value.to(metric.device))
        metric._update_count = 1  # else torchmetrics warns that nothing was measured
