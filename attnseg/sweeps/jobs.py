"""Runs the jobs of a sweep: skips what is done, survives what falls, stops when asked."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from attnseg.common.errors import FAILED, INTERRUPTED, ConfigError
from attnseg.common.files import make_folder, write_text
from attnseg.common.signals import handled, outlive_readers
from attnseg.config import LauncherConfig, TrainConfig
from attnseg.runs.frozen import freeze
from attnseg.sweeps.engine import launch_jobs, refuse_missing, threads_of_a_job
from attnseg.sweeps.record import Job, SweepRecord
from attnseg.sweeps.table import Watcher, live_table
from attnseg.sweeps.worker import note, settle_dead


class Runner:
    """Runs jobs of one sweep by one launcher.

    Args:
        record: the sweep; its folder is made.
        launcher: which launcher, and how many jobs at once.
        fail_fast: the first failure stops the sweep.

    Raises:
        ConfigError: the launcher's plugin is missing, or the folder cannot be written to.
    """

    def __init__(self, record: SweepRecord, launcher: LauncherConfig, *, fail_fast: bool) -> None:
        refuse_missing(launcher)
        make_folder(record.path / "jobs", "run.root")
        self.record = record
        self.launcher = launcher
        self.fail_fast = fail_fast
        self._grants: dict[int, list[str]] = {}  # of each job, what `thaw` needs

    @property
    def stopped(self) -> bool:
        """Whether no further job is to start."""
        return self.record.stop_marker.exists()

    def run(self, jobs: Sequence[Job]) -> None:
        """Run those of the jobs that are not done, each run once.

        A worker that is killed may take others with it (joblib gives all of its workers up).
        What had not begun is launched again; what died is tried once more, each by itself, so
        that only the culprit fails.
        """
        waiting = {job.index: job for job in self._to_do(jobs)}
        for job in waiting.values():
            self._freeze(job)
        suspects: list[int] = []
        while waiting and not self.stopped:
            crash = self._launch(list(waiting))
            outcomes = {index: self.record.outcome(job) for index, job in waiting.items()}
            fallen = [i for i, o in outcomes.items() if o.started and o.exit_code is None]
            suspects += fallen
            untouched = [i for i, o in outcomes.items() if not o.started]
            if crash is not None and len(untouched) == len(waiting):
                raise ConfigError(
                    f"launcher={self.launcher.name} started no job: "
                    f"{type(crash).__name__}: {(str(crash).splitlines() or [''])[0]}"
                ) from None
            if crash is None and untouched and not self.stopped:
                raise ConfigError(
                    f"launcher={self.launcher.name} has ended without starting "
                    f"{len(untouched)} of the jobs; its own logs say why"
                )
            if crash is None:
                break
            waiting = {index: waiting[index] for index in untouched}
        by_index = {job.index: job for job in jobs}
        for index in suspects:
            if not self.stopped:
                self._launch([index])
            outcome = self.record.outcome(by_index[index])
            if outcome.exit_code is None and not self.stopped:
                self._bury(by_index[index])

    def _to_do(self, jobs: Sequence[Job]) -> list[Job]:
        """Not done, and no other job of this sweep is the same run."""
        chosen: dict[str, Job] = {}
        for job in jobs:
            if job.config is None or job.run_id is None:
                continue
            state = self.record.state(job)
            done = self.record.is_done(job) and (state == "pruned" or not job.folder.lacks_report())
            done = done or state in ("running", "changed")
            if starts_afresh(job.config) or not done:
                chosen.setdefault(job.run_id, job)
        return list(chosen.values())

    def _freeze(self, job: Job) -> None:
        """Write the configuration that the worker reads."""
        assert job.config is not None
        config = job.config
        trainer = config.trainer.model_copy(update={"progress_bar": False})  # the table shows it
        threads = threads_of_a_job(self.launcher)
        share = None if threads is None else max(1, threads // processes_of(config))
        launcher = config.launcher.model_copy(update={"threads": share})
        config = config.model_copy(update={"trainer": trainer, "launcher": launcher})
        self._grants[job.index] = freeze(config, self.record.frozen(job.index))

    def _launch(self, indices: list[int]) -> Exception | None:
        for index in indices:
            self.record.frozen(index).with_suffix(".json").unlink(missing_ok=True)
        try:
            grants = {index: self._grants[index] for index in indices}
            launch_jobs(self.launcher, self.record, grants, fail_fast=self.fail_fast)
        except ConfigError:
            raise
        except Exception as error:
            return error
        return None

    def _bury(self, job: Job) -> None:
        assert job.config is not None
        note(self.record.frozen(job.index), self.record.session, FAILED)
        settle_dead(job.config, job.folder)
        if self.fail_fast:
            write_text(self.record.stop_marker, f"job {job.index} died\n")


def starts_afresh(config: TrainConfig) -> bool:
    """Whether finished runs are to be trained again."""
    return config.resume == "none"


def processes_of(config: TrainConfig) -> int:
    """Processes of one job on a machine; 1 where that is not known yet."""
    from attnseg.training.launch import processes_wanted

    try:
        return processes_wanted(config)
    except ConfigError:  # the job itself will say so
        return 1


@contextmanager
def stopping_on_signals(record: SweepRecord) -> Iterator[None]:
    """A stop signal stops the sweep: no job starts any more, those that run save and end."""

    def stop(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and record.stop_marker.exists():
            raise KeyboardInterrupt
        outlive_readers()
        write_text(record.stop_marker, f"{signal.Signals(number).name}\n")
        print("stopping: the running jobs save first; Ctrl-C again stops at once", flush=True)
        for pid in _running_here(record):
            os.kill(pid, signal.SIGTERM)

    with handled(stop):
        yield


def _running_here(record: SweepRecord) -> list[int]:
    pids = set()
    for job in record.jobs:
        if record.outcome(job).started and record.state(job) == "running":
            status = job.folder.read_status()
            if status.get("host") == socket.gethostname() and status.get("pid") != os.getpid():
                pids.add(int(status["pid"]))
    return sorted(pids)


def run_grid(record: SweepRecord, launcher: LauncherConfig, *, fail_fast: bool) -> int:
    """Run every job of a grid.

    Returns:
        0 all finished, 1 some failed, 2 some were the user's mistake, 75 interrupted.
    """
    runner = Runner(record, launcher, fail_fast=fail_fast)
    with Watcher(record), stopping_on_signals(record):
        runner.run(record.jobs)
    return conclude(record)


def conclude(record: SweepRecord) -> int:
    """Write the record, print the summary; returns the exit code."""
    outlive_readers()
    rows = record.write()
    outcomes = [record.outcome(job).exit_code for job in record.jobs if job.config is not None]
    codes = [code for code in outcomes if code is not None]
    codes += [row["exit_code"] for row in rows if row["exit_code"] is not None]
    counts = Counter(row["state"] for row in rows)
    console = Console()
    if console.is_terminal:
        console.print(live_table(record, len(rows)))
    for row in rows:
        if row["state"] in ("failed", "invalid", "changed"):
            reason = (str(row["reason"]).strip().splitlines() or [""])[0]
            print(f"{row['state']}: {row['name']}: {reason}", file=sys.stderr)
    text = ", ".join(f"{number} {state}" for state, number in counts.most_common())
    print(f"sweep {record.name}: {len(rows)} jobs: {text}\nrecord: {record.path / 'sweep.json'}")
    interrupted = record.interrupted
    record.stop_marker.unlink(missing_ok=True)
    if interrupted or INTERRUPTED in codes or counts["running"]:
        print("the same command goes on from there")
        return INTERRUPTED
    if FAILED in codes:
        return FAILED
    return max(codes, default=0)
