"""A guard against values that are not finite: losses, outputs, and weights that would be saved."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from attnseg.common.errors import NonFiniteError
from attnseg.common.finite import all_finite
from attnseg.common.processes import gather_from_ranks
from attnseg.training.record import record_of

_SHOWN = 5  # cases of a validation


class StopOnNonFinite(pl.Callback):
    """Stops at a value that is NaN or infinite, on all ranks together.

    In training before the backward pass, so that no weight is touched; in validation after the
    last batch, so that all such cases are named, and before anything is made of the rest.

    Args:
        losses: stop at a training loss, too. Without it (as for 16-mixed, whose scaler skips
            such steps) training goes on as long as the validation and the weights are finite.
    """

    def __init__(self, *, losses: bool) -> None:
        self.losses = losses
        self._broken: list[str] = []

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Tensor) -> None:
        """Check the total.

        Raises:
            NonFiniteError: names the terms and the cases of the batch.
        """
        if not self.losses:
            return
        # Asked with all that is asked later, so that a step waits for the device once.
        broken = not (all_finite(loss, *record_of(pl_module).step.tensors) or torch.isfinite(loss))
        if trainer.world_size > 1:
            broken = trainer.strategy.reduce_boolean_decision(broken, all=False)
        if broken:
            own = [] if torch.isfinite(loss) else [told(record_of(pl_module).step)]
            where = f"in epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
            raise NonFiniteError(f"non-finite loss {where}: {'; '.join(_of_all_ranks(own))}")

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Nothing is broken yet."""
        self._broken = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note what is not finite; no metric sees it."""
        if not record_of(pl_module).step.finite:
            self._broken.append(told(record_of(pl_module).step))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Fail the validation.

        Raises:
            NonFiniteError: names what was not finite, and the cases.
        """
        broken = _of_all_ranks(self._broken)
        if broken:
            more = f"; and {len(broken) - _SHOWN} more batches" if len(broken) > _SHOWN else ""
            raise NonFiniteError(
                f"the validation of epoch {trainer.current_epoch + 1} is not finite: "
                f"{'; '.join(broken[:_SHOWN])}{more}"
            )


def told(step: Any) -> str:
    """What of a step is not finite, and in which cases."""
    parts = [f"{k}={float(v)}" for k, v in step.terms.items() if not torch.isfinite(v)]
    maps = {"mask logits": step.output.mask_logits, "attention": step.output.attention}
    parts += [name for name, values in maps.items() if not all_finite(values)]
    ids = step.batch["case_id"]
    fine = torch.stack([torch.isfinite(values).flatten(1).all(1) for values in maps.values()])
    named = [case for case, ok in zip(ids, fine.all(0).tolist(), strict=True) if not ok]
    return f"{', '.join(parts)} (cases {', '.join(named or ids)})"


def _of_all_ranks(own: list[str]) -> list[str]:
    return list(dict.fromkeys(line for part in gather_from_ranks(own) for line in part))
