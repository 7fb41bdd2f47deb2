"""What a sweep shows: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from attnseg.runs.identity import identity_record
from attnseg.sweeps.record import Job, SweepRecord
from attnseg.sweeps.table import Watcher, live_table
from tests.conftest import configure

STATES = ("finished", "running", "failed", "pending")


@pytest.fixture
def sweep_record(tmp_path: Path) -> SweepRecord:
    record = SweepRecord(tmp_path, "study", "0123", "attnseg train -m", ["seed"])
    for index, state in enumerate(STATES):
        job = record.place(
            index,
            {"seed": index},
            configure(tmp_path / "unused", f"seed={index + 10}", f"run.root={tmp_path}"),
        )
        assert job.config is not None
        record.jobs.append(job)
        if state != "pending":
            job.folder.path.mkdir()
            best = {"metric": "val/dice_positive", "value": 0.5, "epoch": 2}
            job.folder.update_status(
                **identity_record(job.config), state=state, epoch=2, best=best, reason="out of luck"
            )
    record.jobs.append(Job(4, {"seed": 4}, "seed=4", problem="seed: no such"))
    return record


def text_of(record: SweepRecord, room: int) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(live_table(record, room))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_table_has_state_epoch_and_best(sweep_record: SweepRecord) -> None:
    with sweep_record.jobs[1].folder.held():
        text = text_of(sweep_record, 20)
    assert "1 running, 1 failed, 1 invalid, 1 finished, 1 pending" in text
    row = next(line for line in text.splitlines() if "seed=0" in line)
    assert "finished" in row
    assert "dice_positive 0.5000" in row
    assert "2/2" in row
    assert "out of luck" in next(line for line in text.splitlines() if "seed=2" in line)


def test_a_run_whose_process_is_gone_is_not_shown_as_running(sweep_record: SweepRecord) -> None:
    assert "1 crashed" in text_of(sweep_record, 20)


def test_a_long_table_shows_what_matters_most(sweep_record: SweepRecord) -> None:
    text = text_of(sweep_record, 3)
    assert "and 2 more" in text
    assert "seed=2" in text
    assert "seed=3" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_what_ends_is_told_once(sweep_record: SweepRecord, terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=terminal, no_color=True)
    with Watcher(sweep_record, console) as watcher:
        sweep_record.jobs[3].folder.path.mkdir()
        sweep_record.jobs[3].folder.update_status(state="failed", reason="KeyError: x\nmore")
        (sweep_record.jobs[3].folder.path / "traceback.txt").write_text("")
        watcher.refresh()
        watcher.refresh()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("failed: seed=3: KeyError: x (") == 1
    if not terminal:
        (line,) = (line for line in text.splitlines() if "seed=3" in line)
        assert line.endswith("traceback.txt)")
