"""The progress bar of a training run."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar

from attnseg.training.record import record_of

_SHOWN = {
    "train/loss/total": "loss",
    "val/dice_positive": "dice",
    "val/attention_gt_overlap": "att-gt",
    "val/attention_gt_distance": "dist",
}


def progress_bar() -> pl.Callback:
    """Lightning's rich bar with the few numbers that tell how a run goes."""
    return _Bar(leave=False)


class _Bar(RichProgressBar):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._numbers: dict[str, str] = {}  # of the last epoch that had them

    def get_metrics(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, Any]:
        values = record_of(pl_module).values
        self._numbers |= {s: f"{values[key]:.3f}" for key, s in _SHOWN.items() if key in values}
        return {"phase": pl_module.schedule.phase(trainer.current_epoch).name, **self._numbers}

    def _get_train_description(self, current_epoch: int) -> str:
        """Epochs from 1 on, as the ledger, the phases and the report count them."""
        text = f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"
        return text.ljust(len(self.validation_description))
