"""What state a run is in, told by its folder, and the same by everything that asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attnseg.cli import main
from attnseg.reports.compare.study import left_out
from attnseg.runs.folder import RunFolder
from attnseg.runs.gather import gather
from attnseg.runs.prune import choose
from attnseg.runs.records import read_record
from attnseg.runs.states import STATES, has_nothing_left, read_state
from attnseg.sweeps.table import _COLOURS
from tests.reports.compare.fakes import EPOCHS, age, fake_run
from tests.sweeps.helpers import record, states, sweep


@pytest.mark.parametrize(
    ("status", "state", "word"),
    [
        ({"state": "finished", "reason": "all epochs", "epoch": EPOCHS}, "finished", "all epochs"),
        ({"state": "finished", "reason": "early stopping", "epoch": 2}, "finished", "early"),
        ({"state": "finished", "reason": "all epochs", "epoch": 2}, "partial", "2 of 4 epochs"),
        ({"state": "finished"}, "finished", ""),  # an old one, that has no epoch
        ({"state": "running", "epoch": 2}, "crashed", "same command goes on"),
        ({"state": "pruned", "reason": "by the median"}, "pruned", "by the median"),
        ({"state": "interrupted", "reason": "SIGTERM"}, "interrupted", "SIGTERM"),
        ({"state": "failed", "reason": "no memory"}, "failed", "no memory"),
        ({"state": "asleep"}, "unknown", "'asleep', which is no state"),
        ({"id": "1"}, "unknown", ""),
        ("{", "unknown", "missing or broken"),
        (None, "pending", ""),
    ],
)
def test_a_status_means_one_state(tmp_path: Path, status: Any, state: str, word: str) -> None:
    folder = RunFolder(tmp_path)
    if status is not None:
        folder.status.write_text(status if isinstance(status, str) else json.dumps(status))
    found, reason = read_state(folder, EPOCHS)
    assert found == state
    assert found in STATES
    assert word in reason
    with folder.held():
        assert read_state(folder, EPOCHS)[0] == ("running" if state == "crashed" else state)


def test_a_lost_status_is_not_a_run_that_has_not_begun(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "a")
    (run / "status.json").unlink()
    assert read_state(RunFolder(run), EPOCHS)[0] == "unknown"


def test_what_a_command_has_left_depends_on_how_far_it_goes() -> None:
    status = {"epoch": 2}
    assert has_nothing_left("finished", status, None)
    assert has_nothing_left("partial", status, 2)
    assert not has_nothing_left("partial", status, 3)
    assert not has_nothing_left("partial", status, None)
    assert not has_nothing_left("crashed", status, 2)


def test_a_sweep_that_max_epochs_cuts_short_is_partial_to_every_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "seed=1,2", "trainer.max_epochs=1") == 0
    assert set(states(tmp_path).values()) == {"partial"}
    assert {job["exit_code"] for job in record(tmp_path)["jobs"]} == {0}
    assert "2 partial" in capsys.readouterr().out
    assert main(["runs", "list", f"root={tmp_path}", "state=partial", "format=json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    (folder,) = tmp_path.glob("sweeps/*")
    runs = gather([folder]).runs
    assert [run.state for run in runs] == ["partial", "partial"]
    assert all(why.startswith("partial: cut short after 1 of 2") for why in left_out(runs))
    before = {run.path: run.folder.last.stat().st_mtime_ns for run in runs}
    assert sweep(tmp_path, "seed=1,2", "trainer.max_epochs=1") == 0
    assert before == {run.path: run.folder.last.stat().st_mtime_ns for run in runs}
    assert sweep(tmp_path, "seed=1,2") == 0, "without max_epochs there is more to do"
    assert set(states(tmp_path).values()) == {"finished"}


@pytest.mark.parametrize("state", STATES)
def test_every_state_can_be_asked_for(
    tmp_path: Path, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run(tmp_path / "a", state=state, evaluated=None)
    assert main(["runs", "list", f"root={tmp_path}", f"state={state}", "format=json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown) == (state != "running"), "nobody trains it, so it has crashed"
    assert main(["runs", "prune", f"root={tmp_path}", f"state={state}"]) == 0
    assert state in _COLOURS


def test_a_pruned_run_is_listed_pruned_and_left_out(tmp_path: Path) -> None:
    run = read_record(fake_run(tmp_path / "a", state="pruned", reason="by the median", epochs=2))
    assert run.state == "pruned"
    assert left_out([run]) == ["pruned: by the median"]
    age(run.path, 600)
    assert [one.run.path for one in choose([run], states=["pruned"])[0]] == [run.path]


def test_a_job_without_a_folder_is_gone_unless_it_never_began(tmp_path: Path) -> None:
    jobs = [{"name": state, "run_dir": f"../{state}", "state": state} for state in STATES]
    (tmp_path / "sweep").mkdir()
    content = {"name": "s", "jobs": [*jobs, {"name": "odd", "state": "asleep"}]}
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(content))
    found = {run.name: run.state for run in gather([tmp_path / "sweep"]).runs}
    kept = {"pending", "invalid", "failed", "unknown"}
    assert found == {s: s if s in kept else "gone" for s in STATES} | {"odd": "unknown"}
