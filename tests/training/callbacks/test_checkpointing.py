"""When last.ckpt and best.ckpt are written, without a training."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attnseg.config import CheckpointConfig
from attnseg.runs.folder import RunFolder
from attnseg.training.callbacks.checkpointing import Checkpointing
from attnseg.training.callbacks.interruption import between_steps
from attnseg.training.record import TrainingRecord


class Trainer(SimpleNamespace):
    """Notes what it is asked to save."""

    def save_checkpoint(self, path: Path) -> None:
        self.saved.append(path.name)


def trainer(**changes: Any) -> Any:
    standard = {"saved": [], "current_epoch": 0, "global_step": 1, "is_global_zero": True}
    standard |= {"num_training_batches": 4, "accumulate_grad_batches": 1, "world_size": 1}
    return Trainer(**(standard | changes))


def epochs(checkpointing: Checkpointing, values: list[float | None]) -> list[list[str]]:
    """What is saved after each epoch of these validation values (None: not validated)."""
    found = []
    for epoch, value in enumerate(values):
        module: Any = SimpleNamespace(
            record=TrainingRecord({} if value is None else {"val/dice_positive": value})
        )
        given = trainer(current_epoch=epoch, global_step=10 * (epoch + 1))
        checkpointing.on_train_epoch_end(given, module)
        found.append(given.saved)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_the_best_is_saved_before_the_last_that_knows_of_it(folder: RunFolder) -> None:
    checkpointing = Checkpointing(CheckpointConfig(), folder)
    saved = epochs(checkpointing, [None, 0.2, 0.1, 0.3])
    both, last = ["best.ckpt", "last.ckpt"], ["last.ckpt"]
    assert saved == [last, both, last, both]
    status = folder.read_status()
    assert (status["epoch"], status["step"]) == (4, 40)
    assert status["best"] == {"metric": "val/dice_positive", "value": 0.3, "epoch": 4}


def test_a_smaller_value_may_be_better(folder: RunFolder) -> None:
    checkpointing = Checkpointing(CheckpointConfig(mode="min"), folder)
    assert [len(names) for names in epochs(checkpointing, [0.2, 0.1, 0.3])] == [2, 2, 1]


def test_an_undefined_best_gives_way_to_the_newest(folder: RunFolder) -> None:
    checkpointing = Checkpointing(CheckpointConfig(), folder)
    saved = epochs(checkpointing, [math.nan, math.nan, 0.1, math.nan])
    assert [len(names) for names in saved] == [2, 2, 2, 1]
    assert checkpointing.best_epoch == 3


def test_its_state_goes_on_where_it_was(folder: RunFolder) -> None:
    first, second = (Checkpointing(CheckpointConfig(), folder) for _ in range(2))
    epochs(first, [0.5])
    second.load_state_dict(first.state_dict())
    assert (second.best, second.best_epoch) == (0.5, 1)
    assert epochs(second, [0.4]) == [["last.ckpt"]]


@pytest.mark.parametrize(("every", "wanted"), [(None, []), (1, [1, 2, 3]), (2, [2])])
def test_every_n_steps_but_not_after_an_epochs_last(
    every: int | None, wanted: list[int], folder: RunFolder
) -> None:
    checkpointing = Checkpointing(CheckpointConfig(every_n_steps=every), folder)
    saved = []
    for batch in range(4):
        given = trainer(global_step=batch + 1)
        checkpointing.on_train_batch_end(given, None, None, None, batch)
        saved += [batch + 1] * len(given.saved)
    assert saved == wanted


def test_gradients_that_accumulate_are_not_between_steps() -> None:
    given = trainer(accumulate_grad_batches=2, num_training_batches=6)
    assert [between_steps(given, batch) for batch in range(6)] == [
        False, True, False, True, False, False,
    ]  # fmt: skip
