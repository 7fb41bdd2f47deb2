"""Stopping on request without losing anything."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from attnseg.callbacks.monitoring import tell

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(Exception):
    """The run was asked to stop, has saved last.ckpt and can be resumed."""


class Interruption(pl.Callback):
    """On Ctrl-C, SIGTERM or SIGUSR1: finish the step, save last.ckpt, stop. A second Ctrl-C
    stops at once.

    Lightning itself saves nothing on SIGTERM and exits with 0.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Install the handlers (Python allows it in the main thread only)."""
        try:
            self._previous = {s: signal.signal(s, self._receive) for s in SIGNALS}
        except ValueError:
            self._previous = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Again: Lightning has wrapped the handlers by now, and its own ends a run unsaved."""
        for number in self._previous:
            signal.signal(number, self._receive)

    def release(self) -> None:
        """Give the handlers back; after a failure Lightning calls no hook for it."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop mid-epoch; after its last step the epoch is finished first."""
        if batch_idx + 1 < trainer.num_training_batches and self._asked(trainer):
            callback = trainer.checkpoint_callback
            trainer.save_checkpoint(callback.folder.last)  # type: ignore[union-attr]
            self._stop(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop between epochs: last.ckpt of the one before is already written."""
        if trainer.global_step and self._asked(trainer):
            self._stop(trainer)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        tell(f"{signal.Signals(number).name}: finishing this step, then saving and stopping")

    def _asked(self, trainer: pl.Trainer) -> bool:
        """Whether any rank was asked: they must stop at the same step."""
        asked = self.received is not None
        if trainer.world_size > 1:
            return bool(trainer.strategy.reduce_boolean_decision(asked, all=False))
        return asked

    def _stop(self, trainer: pl.Trainer) -> None:
        raise Interrupted(
            f"interrupted in epoch {trainer.current_epoch + 1}, step {trainer.global_step}; saved"
        )
