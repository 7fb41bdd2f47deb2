"""Hydra's launchers: several jobs at once, threads shared out, and workers that die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from attnseg.common.errors import FAILED, INTERRUPTED, USER_MISTAKE
from attnseg.config import LauncherConfig
from attnseg.runs.folder import RunFolder
from attnseg.sweeps import engine
from attnseg.sweeps.orphans import started
from attnseg.sweeps.worker import JobRunner
from tests.sweeps.helpers import record, run_folder, states, sweep, sweep_elsewhere

EXTRAS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}


def needs(launcher: str) -> None:
    pytest.importorskip(EXTRAS[launcher], reason=f"the extra for launcher={launcher} is missing")


class Told(JobRunner):
    """A worker that trains nothing: it does what the sweep's folder tells it to."""

    def _run(self, config: Any) -> int:
        from attnseg.runs.folder import RunFolder
        from attnseg.runs.identity import identity_record

        folder = RunFolder(Path(config.run.dir))
        folder.path.mkdir(parents=True, exist_ok=True)
        tries = folder.path / "tries"
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        (folder.path / "threads").write_text(os.environ.get("OMP_NUM_THREADS", ""))
        if config.seed == 75:
            return self._stopped_with_the_sweep(folder, identity_record(config))
        always, once = config.seed == 66, config.seed == 6 and len(tries.read_text()) == 1
        if always or once:
            folder.update_status(**identity_record(config), state="running")
            os.kill(os.getpid(), signal.SIGKILL)
        folder.update_status(**identity_record(config), state="finished")
        return 0

    def _stopped_with_the_sweep(self, folder: Any, identity: dict[str, Any]) -> int:
        """Stops the sweep's own process, and waits to be stopped by it.

        A launcher may give the job to a process that has trained before and has threads of its
        own: any of them may take the signal, so a handler waits for it, looked after by polling.
        """
        arrived = threading.Event()
        before = signal.signal(signal.SIGTERM, lambda *_: arrived.set())
        here = {"host": socket.gethostname(), "pid": os.getpid()}
        folder.update_status(**identity, state="running", **here)
        os.kill(int(os.environ["SWEEPS_PID"]), signal.SIGTERM)
        for _ in range(600):
            if arrived.wait(0.1):
                break
        signal.signal(signal.SIGTERM, before)
        folder.update_status(state="interrupted" if arrived.is_set() else "failed")
        return INTERRUPTED if arrived.is_set() else FAILED


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_who_stops_the_sweep_stops_the_jobs_of_other_processes(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(launcher)
    monkeypatch.setattr(engine, "JobRunner", Told)
    monkeypatch.setenv("SWEEPS_PID", str(os.getpid()))
    words = (f"launcher={launcher}", "launcher.n_jobs=1", "seed=75,1")
    assert sweep(tmp_path, *words) == INTERRUPTED
    assert states(tmp_path) == {"seed=75": "interrupted", "seed=1": "pending"}


@pytest.mark.parametrize("launcher", sorted(EXTRAS))
def test_a_launcher_trains_every_job_in_its_folder(launcher: str, tmp_path: Path) -> None:
    needs(launcher)
    loader = "data.num_workers=1"  # a job may start processes of its own
    words = ("schedule=none", "schedule.total_epochs=1", "seed=1,2", loader)
    assert sweep(tmp_path, *words, f"launcher={launcher}") == 0
    assert states(tmp_path) == {"seed=1": "finished", "seed=2": "finished"}
    folder = run_folder(tmp_path, "seed=1")
    assert "report.html" in (folder / "output.log").read_text()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["run"]["sweep"]["varied"] == {"seed": 1}


@pytest.mark.parametrize(
    "launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.full)]
)
def test_a_job_that_is_killed_takes_no_other_with_it(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6 dies once and is tried again; 66 dies always, and it alone has failed."""
    needs(launcher)
    monkeypatch.setattr(engine, "JobRunner", Told)
    assert sweep(tmp_path, "seed=1,6,66,2", f"launcher={launcher}") == FAILED
    got = states(tmp_path)
    assert got.pop("seed=66") == "failed"
    assert set(got.values()) == {"finished"}
    assert (run_folder(tmp_path, "seed=6") / "tries").read_text() == "xx"
    assert (run_folder(tmp_path, "seed=66") / "tries").read_text() == "xx"
    assert "killed" in record(tmp_path)["jobs"][2]["reason"]
    assert (run_folder(tmp_path, "seed=66") / "traceback.txt").exists()


def test_jobs_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("joblib")
    monkeypatch.setattr(engine, "JobRunner", Told)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    words = ("launcher=joblib", "launcher.n_jobs=4", "trainer.num_threads=null", "seed=1,2")
    assert sweep(tmp_path, *words) == 0
    assert (run_folder(tmp_path, "seed=1") / "threads").read_text() == "3"
    (frozen,) = tmp_path.glob("sweeps/*/jobs/0.yaml")
    assert yaml.safe_load(frozen.read_text())["launcher"]["threads"] == 3


def test_the_processes_of_a_ddp_job_share_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("joblib")
    monkeypatch.setattr(engine, "JobRunner", Told)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    words = ("launcher=joblib", "launcher.n_jobs=2", "trainer=ddp_cpu", "seed=1,2")
    assert sweep(tmp_path, *words, "trainer.num_threads=null") == 0
    (frozen,) = tmp_path.glob("sweeps/*/jobs/0.yaml")
    assert yaml.safe_load(frozen.read_text())["launcher"]["threads"] == 3


@pytest.mark.parametrize(
    ("launcher", "extra"),
    [("joblib", "joblib"), ("submitit_slurm", "submitit"), ("ray", "ray")],
)
def test_a_missing_plugin_is_one_line_that_names_the_extra(
    launcher: str,
    extra: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    assert sweep(tmp_path, f"launcher={launcher}", "seed=1,2") == USER_MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"pip install 'attnseg[{extra}]'")


def test_an_option_that_the_launcher_does_not_know_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs("submitit_local")
    words = ("launcher=submitit_local", "launcher.options.partitoin=gpu", "seed=1,2")
    assert sweep(tmp_path, *words) == USER_MISTAKE
    assert "partitoin" in capsys.readouterr().err


def test_basic_runs_one_at_a_time() -> None:
    with pytest.raises(ValueError, match="joblib"):
        LauncherConfig(name="basic", n_jobs=2)
    assert engine.threads_of_a_job(LauncherConfig()) is None
    assert engine.threads_of_a_job(LauncherConfig(name="ray", n_jobs=2, threads=5)) == 5


def test_a_launcher_that_starts_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from attnseg.sweeps import jobs

    def broken(*unused: Any, **options: Any) -> None:
        raise RuntimeError("no sbatch here")

    monkeypatch.setattr(jobs, "launch_jobs", broken)
    assert sweep(tmp_path, "seed=1,2") == USER_MISTAKE
    assert "started no job: RuntimeError: no sbatch here" in capsys.readouterr().err


def test_a_slurm_job_is_submitted_with_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cluster: what would be handed to submitit."""
    needs("submitit_local")
    given: dict[str, Any] = {}

    def submit(launcher: Any, indices: Any, n_jobs: int) -> None:
        given.update(launcher.params, n_jobs=n_jobs, folder=launcher.config.hydra.sweep.dir)
        for index in indices:
            launcher.task_function(OmegaConf.create({"index": index}))

    monkeypatch.setattr(engine, "JobRunner", Told)
    monkeypatch.setattr(engine, "_each_alone", submit)
    words = ("launcher=submitit_slurm", "launcher.options.partition=gpu", "seed=1,2")
    assert sweep(tmp_path, *words) == 0
    assert (given["partition"], given["cpus_per_task"], given["n_jobs"]) == ("gpu", 8, 32)
    assert given["max_num_timeout"] == 5
    assert given["submitit_folder"].startswith(given["folder"])


def test_a_job_that_the_launcher_forgot_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from attnseg.sweeps import jobs

    monkeypatch.setattr(jobs, "launch_jobs", lambda *unused, **options: None)
    assert sweep(tmp_path, "seed=1,2") == USER_MISTAKE
    assert "without starting 2 of the jobs" in capsys.readouterr().err


def _ends(pid: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while started(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    return started(pid) is None


@pytest.mark.parametrize(
    "launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.full)]
)
def test_the_workers_of_a_killed_sweep_save_and_end(launcher: str, tmp_path: Path) -> None:
    needs(launcher)
    words = ("schedule=none", "schedule.total_epochs=60", "callbacks.overlays.every_n_epochs=0")
    words = (*words, "seed=1,2,3")
    killed = sweep_elsewhere(
        tmp_path, *words, f"launcher={launcher}", "launcher.n_jobs=2", wait=False
    )
    deadline = time.monotonic() + 240
    while len(ledgers := list(tmp_path.glob("seed=*/metrics.csv"))) < 2:
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.1)
    runs = [RunFolder(ledger.parent) for ledger in ledgers]
    workers = [int(run.read_status()["pid"]) for run in runs]
    killed.kill()
    killed.wait()
    assert all(_ends(worker, 60) for worker in workers)
    for run in runs:
        assert run.read_status()["state"] == "interrupted"
        assert run.read_status()["reason"].endswith("; saved")
    assert len(list(tmp_path.glob("seed=*"))) == 2
    epochs = 1 + max(run.read_status()["epoch"] for run in runs)
    assert sweep(tmp_path, *words, f"trainer.max_epochs={epochs}") == 0
    assert set(states(tmp_path).values()) == {"partial"}


def test_a_process_is_known_by_when_it_began() -> None:
    assert started(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        assert _ends(process.pid, 30)  # a zombie, until somebody waits for it
    assert started(process.pid) is None
