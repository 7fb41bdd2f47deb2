"""A guard against NaN and infinite losses."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from attnseg.errors import NonFiniteLossError


class StopOnNonFinite(pl.Callback):
    """Stops before the backward pass of a non-finite loss, so that no weight is touched."""

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Tensor) -> None:
        """Check the total.

        Raises:
            NonFiniteLossError: names the terms and the cases of the batch.
        """
        if torch.isfinite(loss):
            return
        step = pl_module.last_step
        broken = [f"{k}={float(v)}" for k, v in step.terms.items() if not torch.isfinite(v)]
        raise NonFiniteLossError(
            f"non-finite loss in epoch {trainer.current_epoch + 1}, step {trainer.global_step}: "
            f"{', '.join(broken)}; cases {', '.join(step.batch['case_id'])}. The last checkpoint "
            "is from before it. Look at these cases (attnseg data check), lower optim.lr, or "
            "train in trainer.precision=32-true."
        )
