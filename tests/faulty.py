"""A worker that falls where it is told to: `python -m tests.faulty launch.yaml`.

ATTNSEG_FAULT is JSON: {"what": ..., "step": n, "rank": r, "once": path of a marker file}. `what`:
kill (SIGKILL after a step), freeze (SIGSTOP), hang, kill_launcher, stop (SIGTERM to itself),
stop_launcher, kill_while_writing (half of last.ckpt is on the disk), kill_after_ledger (the row is
written, the checkpoint is not), nan_validation , nan_loss, lose (`folder` is deleted). With
`once` it happens to the first process that gets there, so that a restart goes on. With `late_s`
rank 0 takes so long, every time, before it trains.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from attnseg.data.datamodule import AttnSegDataModule
from attnseg.runs import checkpoints
from attnseg.training.callbacks import interruption
from attnseg.training.callbacks import ledger as ledger_callback
from attnseg.training.launch import worker
from attnseg.training.module import AttnSegModule

FAULT: dict[str, Any] = json.loads(os.environ.get("ATTNSEG_FAULT", "{}"))


def due(step: int) -> bool:
    """Whether this is the process and the step; says yes once."""
    if step != FAULT.get("step", step) or int(os.environ.get("RANK", "0")) != FAULT.get("rank", 0):
        return False
    marker = Path(FAULT["once"])
    if marker.exists():
        return False
    marker.touch()
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after_step(act: Callable[[], None]) -> None:
    original = interruption.Interruption.on_train_batch_end

    def hook(self: Any, trainer: Any, *arguments: Any) -> None:
        if due(trainer.global_step):
            act()
        original(self, trainer, *arguments)

    interruption.Interruption.on_train_batch_end = hook  # type: ignore[method-assign]


def while_writing() -> None:
    original = checkpoints.write_atomically

    def torn(path: Path, write: Callable[[IO[bytes]], object]) -> None:
        def half(stream: IO[bytes]) -> None:
            write(stream)
            stream.flush()
            stream.truncate(stream.tell() // 2)
            die()

        fatal = path.name == "last.ckpt" and path.exists() and due(FAULT.get("step", 0))
        original(path, half if fatal else write)

    checkpoints.write_atomically = torn


def after_ledger() -> None:
    original = ledger_callback.write_row

    def fatal(path: Path, row: Any, before: Any) -> Any:
        rows = original(path, row, before)
        if due(row["step"]):
            die()
        return rows

    ledger_callback.write_row = fatal


def nan_in_validation() -> None:
    original = AttnSegModule.validation_step

    def spoiled(self: Any, batch: Any, batch_idx: int) -> None:
        original(self, batch, batch_idx)
        if due(FAULT.get("step", 0)):
            self.record.step.output.mask_logits[0, 0, 0, 0] = float("nan")

    AttnSegModule.validation_step = spoiled  # type: ignore[method-assign]


def nan_loss() -> None:
    original = AttnSegModule.training_step

    def spoiled(self: Any, batch: Any, batch_idx: int) -> Any:
        loss = original(self, batch, batch_idx)
        return loss * float("nan") if due(FAULT.get("step", 0)) else loss

    AttnSegModule.training_step = spoiled  # type: ignore[method-assign]


def slow_decoding(seconds: float) -> None:
    original = AttnSegDataModule.prepare_data

    def late(self: AttnSegDataModule) -> None:
        time.sleep(seconds)
        original(self)

    AttnSegDataModule.prepare_data = late  # type: ignore[method-assign]


def main() -> int:
    if "late_s" in FAULT and os.environ.get("RANK") == "0":
        slow_decoding(FAULT["late_s"])
    match FAULT.get("what"):
        case "kill":
            after_step(die)
        case "freeze":
            after_step(lambda: os.kill(os.getpid(), signal.SIGSTOP))
        case "hang":
            after_step(lambda: time.sleep(300))
        case "kill_launcher":
            after_step(lambda: os.kill(os.getppid(), signal.SIGKILL))
        case "stop":
            after_step(lambda: os.kill(os.getpid(), signal.SIGTERM))
        case "stop_launcher":
            after_step(lambda: os.kill(os.getppid(), signal.SIGTERM))
        case "kill_while_writing":
            while_writing()
        case "kill_after_ledger":
            after_ledger()
        case "lose":
            after_step(lambda: shutil.rmtree(FAULT["folder"]))
        case "nan_loss":
            nan_loss()
        case "nan_validation":
            nan_in_validation()
    frozen, *words = sys.argv[1:]
    # Its digest, and the packages that are trusted; a test that starts this itself gives none.
    words = words or [hashlib.sha256(Path(frozen).read_bytes()).hexdigest()]
    return worker(Path(frozen), *words)


if __name__ == "__main__":
    sys.exit(main())
