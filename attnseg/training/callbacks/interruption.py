"""Stopping on request without losing anything."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer

from attnseg.common.console import tell
from attnseg.common.signals import handled, outlive_readers


class Interrupted(BaseException):
    """The run was asked to stop, and can be resumed.

    Not an Exception: it can strike while a case is decoded, and is not what is wrong with it.
    """


class LimitReached(Interrupted):
    """The run stops as it was told to when it began, and can be resumed."""


class StopRequest:
    """Hears Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 from a run's first moment to its last.

    Lightning itself saves nothing on SIGTERM and exits with 0. While nothing is trained yet a
    signal stops at once; then the step is finished and saved; once training is over the report
    is finished. A second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.preparing = True
        self._heard: list[signal.Signals] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Install the handlers (Python allows it in the main thread only); give them back."""
        with handled(self._receive, signal.SIGUSR1) as self._heard:
            yield

    def insist(self) -> None:
        """Install the handlers again: Lightning wraps them, and its own end a run unsaved."""
        for number in self._heard:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        outlive_readers()
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if self.preparing:
            raise Interrupted(f"{signal.Signals(number).name}: stopped before the first step")
        tell(f"{signal.Signals(number).name}: finishing this step, then saving and stopping")


class Interruption(pl.Callback):
    """Where a stop is asked for: finish the step, save last.ckpt, stop; all ranks together.

    Lightning's own end of a run in the middle of an epoch (`max_steps`, `max_time`, a callback that
    sets `trainer.should_stop`) takes the part for a whole epoch, whose rest a resume would skip.

    Args:
        stop: a signal's.
        max_steps: of the optimizer, after which the run stops.
        max_time: after which this process stops, as Lightning's Timer takes it.

    Raises:
        MisconfigurationException: `max_time` is no duration.
    """

    def __init__(
        self,
        stop: StopRequest,
        max_steps: int | None = None,
        max_time: str | dict[str, int] | None = None,
    ) -> None:
        self.stop = stop
        self.max_steps, self.max_time = max_steps, max_time
        self._seconds = Timer(max_time).time_remaining() if max_time is not None else None
        self._until = math.inf

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """From here on there is something to save."""
        self.stop.insist()
        self.stop.preparing = False
        if self._seconds is not None:
            self._until = time.monotonic() + self._seconds
        if self.max_steps is not None and trainer.global_step >= self.max_steps:
            self._stop(trainer, self._limit(trainer))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop mid-epoch; after its last step the epoch is finished first."""
        if not between_steps(trainer, batch_idx):
            return
        limit = None
        if self._asked(trainer) or (limit := self._limit(trainer)):
            trainer.checkpoint_callbacks[-1].save_last(trainer)  # type: ignore[attr-defined]
            self._stop(trainer, limit)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop between epochs: last.ckpt of the one before is already written."""
        limit = None
        if trainer.global_step and (self._asked(trainer) or (limit := self._limit(trainer))):
            self._stop(trainer, limit)

    def _asked(self, trainer: pl.Trainer) -> bool:
        """Whether any rank was asked: they must stop at the same step."""
        asked = self.stop.received is not None
        if trainer.world_size > 1:
            return bool(trainer.strategy.reduce_boolean_decision(asked, all=False))
        return asked

    def _limit(self, trainer: pl.Trainer) -> str | None:
        """The limit that is reached: by the steps, which all ranks count, or rank zero's clock."""
        if self.max_steps is not None and trainer.global_step >= self.max_steps:
            return f"trainer.max_steps={self.max_steps}"
        late = time.monotonic() >= self._until
        if self.max_time is not None and trainer.world_size > 1:
            late = trainer.strategy.broadcast(late)
        if late:
            return f"trainer.max_time={self.max_time}"
        return "trainer.should_stop, set by a callback" if trainer.should_stop else None

    def _stop(self, trainer: pl.Trainer, limit: str | None = None) -> None:
        outlive_readers()
        if limit is not None:
            raise LimitReached(
                f"{limit}: stopped in epoch {trainer.current_epoch + 1}, step "
                f"{trainer.global_step}; saved"
            )
        raise Interrupted(
            f"interrupted in epoch {trainer.current_epoch + 1}, step {trainer.global_step}; saved"
        )


def between_steps(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the state after this batch can be saved and gone on from exactly.

    Not while gradients accumulate, since they are in no checkpoint; and not on an epoch's last
    batch: a resume there would skip the epoch's validation.
    """
    done = batch_idx + 1
    return done < trainer.num_training_batches and done % trainer.accumulate_grad_batches == 0
