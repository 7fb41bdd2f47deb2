"""Two gloo processes, started by `trainer=ddp_cpu` itself, on uneven numbers of cases."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from attnseg.commands.compose import compose_checked
from attnseg.config import TrainConfig
from attnseg.runs.folder import RunFolder
from attnseg.runs.launch import launch, processes_wanted
from attnseg.runs.ledger import read_ledger
from tests.conftest import TINY

# 7 cases: 4 train on 2 ranks, 3 validate: 2 on one rank, 1 on the other.
UNEVEN = ("data.n_cases=7", "data.split.val_fraction=0.43", "data.augment.enabled=false")


def configure(folder: Path, *overrides: str) -> TrainConfig:
    words = [*TINY, *UNEVEN, f"run.dir={folder}", "model.dropout=0", "attention.dropout=0"]
    return compose_checked("train", [*words, *overrides], TrainConfig)


@pytest.mark.parametrize("schedule", ["two_phase", "three_phase"])
def test_two_processes_train_and_measure_like_one(schedule: str, tmp_path: Path) -> None:
    """Same global batch, same cases: the first epoch's validation agrees but for rounding.

    Losses average over a rank's cases, so training itself differs slightly; the metrics are
    compared after a learning rate of almost nothing.
    """
    common = (f"schedule={schedule}", "schedule.total_epochs=3", "optim.lr=1e-12")
    one = configure(tmp_path / "one", *common, "data.batch_size=4")
    two = configure(tmp_path / "two", *common, "data.batch_size=2", "trainer=ddp_cpu", *TINY[-2:])
    assert processes_wanted(two) == 2
    assert launch(one) == 0
    assert launch(two) == 0
    rows = [read_ledger(RunFolder(tmp_path / name).ledger) for name in ("one", "two")]
    assert len(rows[0]) == len(rows[1]) == 3
    compared = 0
    for first, second in zip(*rows, strict=True):
        assert first["val/n_cases"] == second["val/n_cases"] == "3.0"
        for column in first:
            if column.startswith("val/") and first[column] and "loss" not in column:
                expected, got = float(first[column]), float(second[column])
                assert math.isclose(expected, got, rel_tol=1e-3, abs_tol=1e-4), column
                compared += 1
    assert compared > 60


def test_a_users_mistake_in_a_group_is_one_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, "trainer=ddp_cpu", "callbacks.checkpoint.monitor=val/nothing")
    assert launch(config) == 2
    errors = capfd.readouterr().err
    assert errors.count("val/nothing") == 1
    assert "Traceback" not in errors
