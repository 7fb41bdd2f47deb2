"""A search: Optuna is asked for points, runs are made of them, and it is told what they gave."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from attnseg.common.errors import ConfigError, UserError
from attnseg.common.files import make_folder
from attnseg.config import LauncherConfig, OptunaSweepConfig, Space, TrainConfig, TrialConfig
from attnseg.sweeps.jobs import Runner, conclude, stopping_on_signals
from attnseg.sweeps.names import job_name
from attnseg.sweeps.record import Job, SweepRecord
from attnseg.sweeps.study import (
    build_sampler,
    distributions,
    objective_values,
    open_study,
    storage_url,
)
from attnseg.sweeps.table import Watcher
from attnseg.training.trial import load_optuna

_ENOUGH_REPEATS = 25  # in a row: then the space is taken to be exhausted


@dataclass(frozen=True)
class SearchPlan:
    """What a search is made of."""

    config: OptunaSweepConfig
    launcher: LauncherConfig
    space: Mapping[str, Space]
    record: SweepRecord
    compose: Callable[[Mapping[str, Any]], TrainConfig]


def run_search(plan: SearchPlan) -> int:
    """Search until `n_trials` different points are known, by this worker and any others.

    Returns:
        0 done, 1 some runs failed, 2 some points were the user's mistake, 75 interrupted.
    """
    load_optuna()
    make_folder(plan.record.path / "trials", "run.root")
    runner = Runner(plan.record, plan.launcher, fail_fast=plan.config.fail_fast)
    search = Search(plan)
    with stopping_on_signals(plan.record):
        while not runner.stopped:
            with search.claims(plan.launcher.n_jobs) as trials:
                if not trials:
                    break
                jobs = [search.job(trial) for trial in trials]
                search.refresh_record()
                with Watcher(plan.record):
                    runner.run(jobs)
                for trial, job in zip(trials, jobs, strict=True):
                    search.tell(trial, job)
    search.refresh_record()
    code = conclude(plan.record)
    search.print_best()
    return code


class Search:
    """One worker's view of a study."""

    def __init__(self, plan: SearchPlan) -> None:
        self.plan = plan
        self.folder = plan.record.path
        self.url = storage_url(plan.config, self.folder)
        self.name = f"{plan.record.name}-{plan.record.id}"
        self.states = load_optuna().trial.TrialState
        self._jobs: dict[int, Job] = {}
        with self._alone():
            self.study = open_study(plan.config, self.name, self.url)
            if not self.study.get_trials(deepcopy=False):
                for point in plan.config.enqueue:
                    self.study.enqueue_trial(dict(point))
            self._retry_failed()

    def trials(self) -> list[Any]:
        """All trials of the study, of every worker."""
        return list(self.study.get_trials(deepcopy=False))

    @contextmanager
    def claims(self, count: int) -> Iterator[list[Any]]:
        """Trials for this worker alone: those that a dead worker has left, then new ones."""
        with ExitStack() as held:
            trials: list[Any] = []
            with self._alone():
                for trial in self.trials():
                    if len(trials) < count and trial.state == self.states.RUNNING:
                        own = self.plan.config.storage is None
                        lock = self._lock(trial.number, make=own)
                        if lock is None:
                            continue
                        held.enter_context(lock)
                        # Its worker may have told it and let go since the list was made.
                        if self.trials()[trial.number].state == self.states.RUNNING:
                            trials.append(trial)
                repeats = 0
                while len(trials) < count and repeats < _ENOUGH_REPEATS and self._left() > 0:
                    trial = self._ask()
                    if self._settled_already(trial):
                        repeats += 1
                        continue
                    lock = self._lock(trial.number, make=True)
                    assert lock is not None
                    held.enter_context(lock)
                    trials.append(trial)
                if repeats == _ENOUGH_REPEATS:
                    print(f"the search space seems exhausted: {repeats} known points in a row")
            yield trials

    def job(self, trial: Any) -> Job:
        """The run that a trial stands for."""
        if trial.number not in self._jobs:  # composing takes a moment
            self._jobs[trial.number] = self._make_job(trial)
        return self._jobs[trial.number]

    def _make_job(self, trial: Any) -> Job:
        values = dict(trial.params)
        try:
            config = self.plan.compose(values)
        except UserError as error:
            return Job(trial.number, values, job_name(values), problem=str(error))
        storage = None if self.plan.config.storage else self.url
        mark = TrialConfig(study=self.name, storage=storage, number=trial.number)
        sweep = self.plan.config.model_copy(update={"trial": mark})
        return self.plan.record.place(trial.number, values, config, sweep=sweep)

    def tell(self, trial: Any, job: Job) -> None:
        """What came of a trial; one that was interrupted stays open, for the next start."""
        state = self.plan.record.state(job)
        if state != "pruned" and self.plan.record.is_done(job):
            try:
                values = objective_values(self.plan.config, job.folder)
            except ConfigError as error:
                print(error, file=sys.stderr)
                values = None
            if values is None:
                self.study.tell(trial.number, state=self.states.FAIL)
            else:
                self.study.tell(trial.number, values)
        elif state == "pruned":
            self.study.tell(trial.number, state=self.states.PRUNED)
        elif state in ("failed", "invalid", "changed"):
            self.study.tell(trial.number, state=self.states.FAIL)

    def refresh_record(self) -> None:
        """sweep.json's jobs, made anew of the study."""
        jobs, seen = [], set()
        for trial in self.trials():
            if trial.state == self.states.WAITING or not trial.params:
                continue
            job = self.job(trial)
            key = job.run_id or job.name
            if key not in seen:  # a retried or repeated point is the same run
                seen.add(key)
                jobs.append(job)
        self.plan.record.jobs[:] = jobs
        self.plan.record.write()

    def print_best(self) -> None:
        """The best trial, or the Pareto front."""
        try:
            best = self.study.best_trials
        except (ValueError, RuntimeError):
            return
        names = [objective.metric for objective in self.plan.config.objectives]
        for trial in sorted({str(t.params): t for t in best}.values(), key=lambda t: t.number):
            values = ", ".join(f"{n} {v:.4f}" for n, v in zip(names, trial.values, strict=True))
            print(f"best: {job_name(trial.params)}: {values}")

    def _left(self) -> int:
        """How many new points are to be asked for: a repeated one does not count."""
        points = {str(sorted(trial.params.items())) for trial in self.trials() if trial.params}
        waiting = sum(trial.state == self.states.WAITING for trial in self.trials())
        return max(self.plan.config.n_trials - len(points), 1 if waiting else 0)

    def _ask(self) -> Any:
        number = len(self.trials())
        self.study.sampler = build_sampler(self.plan.config, number)
        asked = self.study.ask(distributions(self.plan.space))
        return self.trials()[asked.number]

    def _settled_already(self, trial: Any) -> bool:
        """Whether the point is known: then it is told what that gave, and nothing is trained."""
        for other in self.trials():
            same = other.number != trial.number and other.params == trial.params
            if same and other.state == self.states.COMPLETE:
                self.study.tell(trial.number, other.values)
                return True
            queued = "fixed_params" in trial.system_attrs  # such as one that failed last time
            if same and other.state != self.states.WAITING and not queued:
                self.study.tell(trial.number, state=self.states.FAIL)
                return True
        return False

    def _retry_failed(self) -> None:
        """Failed points are tried again, once per start; Optuna gives them a new number."""
        states, trials = self.states, self.trials()
        taken = [trial.params for trial in trials if trial.state != states.FAIL]
        taken += [
            trial.system_attrs.get("fixed_params", {})
            for trial in trials
            if trial.state == states.WAITING
        ]
        for trial in trials:
            if trial.state == states.FAIL and trial.params and trial.params not in taken:
                taken.append(trial.params)
                self.study.enqueue_trial(dict(trial.params))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One worker at a time asks; the others wait for the moment that takes."""
        make_folder(self.folder, "run.root")
        with (self.folder / "trials" / ".ask.lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX)
            except OSError as error:
                raise ConfigError(
                    f"{self.folder} is on a file system without locks ({error.strerror}), by which "
                    "the workers of a search know of one another: choose another run.root"
                ) from None
            yield

    def _lock(self, number: int, *, make: bool) -> IO[str] | None:
        """A trial's lock, which a dead worker does not keep; None where a living one has it.

        With `make` off a missing one is left: a worker without this folder may have the trial.
        """
        path: Path = self.folder / "trials" / f"{number}.lock"
        if not make and not path.exists():
            return None
        stream = path.open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            return None
        return stream
