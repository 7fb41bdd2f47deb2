"""A grid of runs: what it makes, what it skips, continues and retries, and what falls."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from attnseg.cli import main
from attnseg.common.errors import FAILED, INTERRUPTED, USER_MISTAKE
from attnseg.runs.folder import RunFolder
from attnseg.training.fit import fit
from tests.conftest import TINY, configure
from tests.exactness import assert_equal_runs
from tests.sweeps.helpers import (
    record,
    run_folder,
    snapshot,
    states,
    sweep,
    sweep_elsewhere,
)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Trainings that take no time; a seed of 13 fails, 75 is interrupted."""
    from attnseg.training import fit as module

    seen: list[Any] = []

    def train(config: Any) -> int:
        seen.append(config)
        folder = RunFolder(Path(config.run.dir))
        folder.path.mkdir(parents=True, exist_ok=True)
        if config.seed == 13:
            raise RuntimeError("out of luck")
        from attnseg.runs.identity import identity_record

        finished = config.seed != 75
        folder.update_status(
            **identity_record(config), state="finished" if finished else "interrupted"
        )
        return 0 if finished else INTERRUPTED

    monkeypatch.setattr(module, "fit", train)
    return seen


def test_the_record_says_what_the_sweep_is(tmp_path: Path, fake: list[Any]) -> None:
    assert sweep(tmp_path, "schedule=none,two_phase", "attention=drr,supervised", "seed=1,2") == 0
    content = record(tmp_path)
    assert set(content) == {"name", "id", "command", "varied", "jobs"}
    assert content["name"] == "attention-schedule-seed"
    assert sorted(content["varied"]) == ["attention", "schedule", "seed"]
    assert content["command"].startswith("attnseg train -m data.n_cases=6")
    assert len(content["jobs"]) == len(fake) == 8
    keys = {"index", "overrides", "name", "run_id", "run_dir", "state", "exit_code", "reason"}
    first = content["jobs"][0]
    assert set(first) == keys
    assert first["overrides"] == {"schedule": "none", "attention": "drr", "seed": 1}
    assert first["name"] == "attention=drr,schedule=none,seed=1"
    assert run_folder(tmp_path, first["name"]).name == f"{first['name']}-{first['run_id']}"
    assert (first["state"], first["exit_code"]) == ("finished", 0)


def test_a_run_knows_its_sweep(tmp_path: Path, fake: list[Any]) -> None:
    assert sweep(tmp_path, "optim.lr=1e-3,2e-3", "seed=4") == 0
    membership = fake[1].run.sweep
    assert membership.varied == {"optim.lr": 2e-3}
    assert (membership.name, membership.id) == (record(tmp_path)["name"], record(tmp_path)["id"])
    assert fake[1].run.name == "lr=0.002"
    assert fake[1].seed == 4


def test_any_number_of_a_schedule_can_vary(tmp_path: Path, fake: list[Any]) -> None:
    joint = "schedule.phases.joint"
    words = (
        f"{joint}.weights.attention.end=0.05,0.2",
        f"{joint}.epochs=50,100",
        "schedule.phases.attention_supervision.weights.attention.curve=linear,cosine",
    )
    assert sweep(tmp_path, *words) == 0
    assert len({job["run_id"] for job in record(tmp_path)["jobs"]}) == 8
    phases = fake[-1].schedule.phases
    assert phases["joint"].weights["attention"].end == 0.2
    assert phases["joint"].epochs == 100
    assert phases["attention_supervision"].weights["attention"].curve == "cosine"
    assert "curve=cosine,end=0.2,epochs=100" in states(tmp_path)


def test_the_same_sweep_in_another_order_is_the_same(tmp_path: Path, fake: list[Any]) -> None:
    assert sweep(tmp_path, "seed=1,2", "attention=drr,none") == 0
    assert sweep(tmp_path, "attention=none,drr", "seed=2,1") == 0
    assert len(fake) == 4
    record(tmp_path)  # there is one only


def test_what_differs_in_nothing_that_defines_a_run_is_one_run(
    tmp_path: Path, fake: list[Any]
) -> None:
    assert sweep(tmp_path, "data.num_workers=0,1") == 0
    assert len(fake) == 1
    assert set(states(tmp_path).values()) == {"finished"}


def test_a_run_that_is_finished_under_another_name_is_not_trained_again(
    tmp_path: Path, finished: RunFolder
) -> None:
    identity = finished.read_status()["id"]
    home = tmp_path / f"by-hand-{identity}"
    shutil.copytree(finished.path, home)
    before = snapshot(home)
    assert main(["train", "-m", *TINY, f"run.root={tmp_path}", "seed=1,1"]) == 0
    assert main(["train", "-m", *TINY, f"run.root={tmp_path}", "schedule=two_phase"]) == 0
    assert snapshot(home) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [home.name, "sweeps"]


def test_one_failing_job_stops_no_other(
    tmp_path: Path, fake: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "seed=1,13,2") == FAILED
    assert [config.seed for config in fake] == [1, 13, 2]
    assert states(tmp_path) == {"seed=1": "finished", "seed=13": "failed", "seed=2": "finished"}
    job = record(tmp_path)["jobs"][1]
    assert (job["exit_code"], job["reason"]) == (FAILED, "RuntimeError: out of luck")
    trace = run_folder(tmp_path, "seed=13") / "traceback.txt"
    assert "out of luck" in trace.read_text()
    out = capsys.readouterr().out
    line = next(line for line in out.replace("\n", "").split("[") if "failed: seed=13" in line)
    assert "RuntimeError: out of luck" in line
    assert "traceback.txt" in line
    assert "2 finished, 1 failed" in out


def test_the_same_command_retries_what_failed_and_nothing_else(
    tmp_path: Path, fake: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep(tmp_path, "seed=1,13") == FAILED
    fake.clear()
    assert sweep(tmp_path, "seed=1,13") == FAILED
    assert [config.seed for config in fake] == [13]


def test_fail_fast_stops_at_the_first_failure(tmp_path: Path, fake: list[Any]) -> None:
    assert sweep(tmp_path, "seed=1,13,2", "sweep.fail_fast=true") == FAILED
    assert [config.seed for config in fake] == [1, 13]
    assert states(tmp_path)["seed=2"] == "pending"


def test_who_stops_a_run_stops_the_sweep(tmp_path: Path, fake: list[Any]) -> None:
    assert sweep(tmp_path, "seed=1,75,2") == INTERRUPTED
    assert states(tmp_path) == {"seed=1": "finished", "seed=75": "interrupted", "seed=2": "pending"}


def test_wrong_jobs_are_listed_first_and_stop_no_other(
    tmp_path: Path, fake: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "schedule=none,nothing", "data.batch_size=2,0") == USER_MISTAKE
    assert len(fake) == 1
    counts = list(states(tmp_path).values())
    assert counts.count("invalid") == 3
    assert counts.count("finished") == 1
    out, err = capsys.readouterr()
    assert out.startswith("3 of 4 jobs cannot run:")
    assert "data.batch_size" in out.split("finished")[0]
    assert "schedule/nothing" in out.split("finished")[0]
    assert "Traceback" not in out + err


def test_one_run_resume_none_trains_again(tmp_path: Path, fake: list[Any]) -> None:
    assert sweep(tmp_path, "seed=1,2") == 0
    assert sweep(tmp_path, "seed=1,2", "resume=none") == 0
    assert len(fake) == 4


def test_a_signal_between_two_jobs_stops_the_sweep(
    tmp_path: Path, fake: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.sweeps import worker

    original = worker.note

    def noted(frozen: Path, session: str, exit_code: int | None) -> None:
        original(frozen, session, exit_code)
        if exit_code == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(worker, "note", noted)
    assert sweep(tmp_path, "seed=1,2") == INTERRUPTED
    assert len(fake) == 1
    monkeypatch.undo()


def test_a_signal_while_a_job_sets_up_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.training import fit as module

    monkeypatch.setattr(module, "fit", lambda config: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert sweep(tmp_path, "seed=1,2") == INTERRUPTED
    assert set(states(tmp_path).values()) == {"pending"}
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupted_run_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the training itself: stopped mid-epoch, the rest untouched."""
    from attnseg.training.callbacks.interruption import Interruption

    original = Interruption._asked

    def ask(self: Interruption, trainer: Any) -> bool:
        second = trainer.lightning_module.config.seed == 2
        return (second and trainer.global_step == 1) or original(self, trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "_asked", ask)
        assert sweep(tmp_path, "seed=1,2,3") == INTERRUPTED
    assert list(states(tmp_path).values()) == ["finished", "interrupted", "pending"]
    before = snapshot(run_folder(tmp_path, "seed=1"))
    assert sweep(tmp_path, "seed=1,2,3") == 0
    assert set(states(tmp_path).values()) == {"finished"}
    assert snapshot(run_folder(tmp_path, "seed=1")) == before
    whole = RunFolder(tmp_path / "whole")
    assert fit(configure(whole.path, "data.augment.enabled=false", "seed=2")) == 0
    broken = RunFolder(run_folder(tmp_path, "seed=2"))
    assert_equal_runs(broken, whole)


KILL = """
import os, signal
from attnseg.training.callbacks.ledger import LedgerWriter
original = LedgerWriter.on_train_epoch_end
def strike(self, trainer, module):
    original(self, trainer, module)
    if module.config.seed == 2 and trainer.current_epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # the second epoch's row is written, no checkpoint
LedgerWriter.on_train_epoch_end = strike
"""


def test_a_sweep_killed_in_the_middle_goes_on_without_loss_or_double(tmp_path: Path) -> None:
    swept = ("seed=1,2,3", "schedule.total_epochs=3")
    killed = sweep_elsewhere(tmp_path, *swept, before=KILL)
    assert killed.returncode == -signal.SIGKILL
    assert RunFolder(run_folder(tmp_path, "seed=2")).read_status()["state"] == "running"
    before = snapshot(run_folder(tmp_path, "seed=1"))
    assert sweep(tmp_path, *swept) == 0
    assert snapshot(run_folder(tmp_path, "seed=1")) == before
    folders = [path for path in tmp_path.iterdir() if (path / "status.json").exists()]
    assert len(folders) == 3
    assert len({job["run_id"] for job in record(tmp_path)["jobs"]}) == 3
    whole = RunFolder(tmp_path / "whole")
    words = ("data.augment.enabled=false", "seed=2", "schedule.total_epochs=3")
    assert fit(configure(whole.path, *words)) == 0
    broken = RunFolder(run_folder(tmp_path, "seed=2"))
    assert_equal_runs(broken, whole)


def test_ddp_jobs_have_processes_and_folders_of_their_own(tmp_path: Path) -> None:
    words = ("trainer=ddp_cpu", *TINY[-2:], "data.batch_size=1", "seed=1,2")
    assert sweep(tmp_path, *words, "schedule=none", "schedule.total_epochs=1") == 0
    assert states(tmp_path) == {"seed=1": "finished", "seed=2": "finished"}
    for name in states(tmp_path):
        folder = run_folder(tmp_path, name)
        assert (folder / "launch.yaml").exists()
        assert len((folder / "metrics.csv").read_text().splitlines()) == 2
    assert sum((path / "status.json").exists() for path in tmp_path.iterdir()) == 2
