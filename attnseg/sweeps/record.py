"""A sweep's record: what it is made of, and the state of every job, read from the run folders."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnseg.build import build_schedule
from attnseg.common.credentials import concealed
from attnseg.common.errors import FAILED, INTERRUPTED, USER_MISTAKE
from attnseg.common.files import write_json
from attnseg.config import SweepMembership, TrainConfig
from attnseg.runs.code import Code, changed_files, code_of, listed
from attnseg.runs.folder import RunFolder, runs_of
from attnseg.runs.identity import content_unknown, recorded_ids, run_identity, run_ids
from attnseg.runs.states import RESUMABLE, State, has_nothing_left, read_state
from attnseg.sweeps.names import job_name

_PREFERRED = ("finished", "pruned", "running", *RESUMABLE, "failed")


@dataclass(frozen=True)
class Job:
    """One job of a sweep: a configuration with a folder, or a mistake."""

    index: int
    overrides: Mapping[str, Any]  # what varies, with this job's values
    name: str
    config: TrainConfig | None = None
    problem: str = ""  # why there is no configuration

    @property
    def run_id(self) -> str | None:
        """The identity of its run."""
        return run_identity(self.config) if self.config else None

    @property
    def folder(self) -> RunFolder:
        """Where its run is or will be."""
        assert self.config is not None and self.config.run.dir is not None
        return RunFolder(Path(self.config.run.dir))


@dataclass(frozen=True)
class Outcome:
    """What is known of a job of this invocation without its run's status."""

    started: bool = False
    exit_code: int | None = None


@dataclass
class SweepRecord:
    """`<run.root>/sweeps/<name>-<id>/`: sweep.json, the jobs' frozen configurations.

    The run folders are the truth: sweep.json is made of them anew whenever it is written, so
    several processes may write it.
    """

    root: Path  # run.root
    name: str
    id: str
    command: str
    varied: Sequence[str]
    jobs: list[Job] = field(default_factory=list)
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:8])  # this invocation
    _codes: dict[int, Code] = field(default_factory=dict)  # of the jobs, now

    @property
    def path(self) -> Path:
        """The sweep's folder."""
        return self.root / "sweeps" / f"{self.name}-{self.id}"

    @property
    def stop_marker(self) -> Path:
        """While it is there, no job of this invocation starts."""
        return self.path / f".stop-{self.session}"

    @property
    def interrupted(self) -> bool:
        """Whether it was a signal that stopped the sweep, rather than a failure."""
        try:
            return self.stop_marker.read_text().startswith("SIG")
        except OSError:
            return False

    def frozen(self, index: int) -> Path:
        """A job's configuration, for whatever process runs it."""
        return self.path / "jobs" / f"{index}.yaml"

    def place(
        self, index: int, overrides: Mapping[str, Any], config: TrainConfig, **changes: Any
    ) -> Job:
        """A job in a folder of its own: the one its run has already, under whatever name."""
        name = job_name(overrides, config.run.name or "")
        identity = run_identity(config)
        twins = [job.folder.path for job in self.jobs if job.run_id == identity]
        home = twins[0] if twins else self._home(config)
        membership = SweepMembership(name=self.name, id=self.id, varied=dict(overrides))
        run = config.run.model_copy(
            update={"name": name or config.run.name, "sweep": membership, "dir": None}
        )
        if home is None:
            from attnseg.runs.folder import folder_of

            home = folder_of(config.model_copy(update={"run": run})).path
        run = run.model_copy(update={"dir": str(home)})
        return Job(index, overrides, name, config.model_copy(update={"run": run, **changes}))

    def _home(self, config: TrainConfig) -> Path | None:
        """The folder that a run has already, and that is no other job's.

        One of before there were digests is the run of the first job of its configuration; the
        same configuration on other data is not.
        """
        home = find_run(self.root, run_ids(config))
        taken = any(job.config is not None and job.folder.path == home for job in self.jobs)
        return None if taken else home

    def outcome(self, job: Job) -> Outcome:
        """What the job's worker noted in this invocation."""
        try:
            noted = json.loads(self.frozen(job.index).with_suffix(".json").read_text())
        except (OSError, ValueError):
            return Outcome()
        return Outcome(True, noted["exit_code"]) if noted["session"] == self.session else Outcome()

    def state(self, job: Job) -> State:
        """A job's state: its run's, where it is one."""
        return self._look(job)[0]

    def is_done(self, job: Job) -> bool:
        """Whether this command has nothing left to do for a job."""
        state, _, status = self._look(job)
        most = job.config.trainer.max_epochs if job.config else None
        return state == "pruned" or has_nothing_left(state, status, most)

    def _look(self, job: Job) -> tuple[State, str, Mapping[str, Any]]:
        """State, reason and status."""
        if job.config is None:
            return "invalid", job.problem, {}
        status = job.folder.read_status()
        total = build_schedule(job.config.schedule).total_epochs
        state, reason = read_state(job.folder, total, status)
        if state == "crashed":
            outcome = self.outcome(job)
            if outcome.started and outcome.exit_code is None:  # it is about to go on
                return "running", "", status
        if changed := self._changed_code(job, job.config, state, status):
            hint = "resume_code=changed takes it as it is, resume=none trains it anew"
            return "changed", f"its code has changed since: {listed(changed)}; {hint}", status
        return state, reason, status

    def _changed_code(
        self, job: Job, config: TrainConfig, state: State, status: Mapping[str, Any]
    ) -> list[str]:
        """The files that training would refuse to go on with, or to take the run as finished by."""
        kept = state in ("finished", "pruned") or (state != "running" and job.folder.last.is_file())
        if not kept or "code" not in status:
            return []
        if config.resume == "none" or config.resume_code == "changed":
            return []
        if job.index not in self._codes:
            self._codes[job.index] = code_of(config)
        return changed_files(status["code"], self._codes[job.index])

    def row(self, job: Job) -> dict[str, Any]:
        """A job as sweep.json has it."""
        state, reason, status = self._look(job)
        codes: dict[str, int | None] = {
            **dict.fromkeys(RESUMABLE, INTERRUPTED),
            "failed": status.get("exit_code", FAILED),
            "invalid": USER_MISTAKE,
            "changed": USER_MISTAKE,
        }
        return {
            "index": job.index,
            "overrides": dict(job.overrides),
            "name": job.name,
            "run_id": job.run_id,
            "run_dir": relative(job.folder.path, self.path) if job.config else None,
            "state": state,
            "exit_code": 0 if self.is_done(job) else codes.get(state),
            "reason": reason or None,
        }

    def write(self) -> list[dict[str, Any]]:
        """Write sweep.json; returns its jobs."""
        rows = [self.row(job) for job in self.jobs]
        content = {
            "name": self.name,
            "id": self.id,
            "command": self.command,
            "varied": list(self.varied),
            "jobs": rows,
        }
        write_json(self.path / "sweep.json", concealed(content))
        return rows


def find_run(root: Path, ids: Mapping[str, str]) -> Path | None:
    """The folder under run.root that has come furthest with this run; known content comes first."""
    found = []
    for index, folder in enumerate(runs_of(root, ids)):
        status = folder.read_status()
        state, _ = read_state(folder, None, status)
        if state in _PREFERRED:
            unknown = content_unknown(recorded_ids(status))
            found.append((unknown, _PREFERRED.index(state), index, folder.path))
    return min(found)[-1] if found else None


def relative(path: Path, start: Path) -> str:
    """A path as seen from a folder, so that the record can be moved with the runs."""
    return os.path.relpath(path, start)
