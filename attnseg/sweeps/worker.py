"""One job, in whatever process a launcher gives it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from attnseg.common.credentials import concealed
from attnseg.common.errors import FAILED, INTERRUPTED, USER_MISTAKE, UserError, wrong_path
from attnseg.common.files import write_json, write_text
from attnseg.common.project import VARIABLE, activate, active
from attnseg.common.signals import handled
from attnseg.config import TrainConfig
from attnseg.runs.folder import RunFolder, now
from attnseg.runs.frozen import thaw
from attnseg.runs.identity import identity_record, run_name
from attnseg.sweeps.orphans import SweepsProcess, busy


class JobRunner:
    """What a launcher calls (and pickles): runs one frozen configuration of a sweep's folder.

    Args:
        sweep: the sweep's folder.
        session: the invocation of the sweep that this belongs to.
        grants: of each job, by its index, what `thaw` needs beside its configuration's path.
        log: keep what a job prints in its run folder (output.log), as several at once would
            write over each other on a terminal.
        fail_fast: a failure keeps further jobs from starting.
        ends_with_sweep: where this process, which makes the object, is killed, so end the
            launcher's; for launchers whose jobs are processes of the same machine.
    """

    def __init__(
        self,
        sweep: Path,
        session: str,
        grants: Mapping[int, list[str]],
        *,
        log: bool,
        fail_fast: bool,
        ends_with_sweep: bool,
    ) -> None:
        self.grants = dict(grants)
        self.sweep = sweep.resolve()
        self.session = session
        self.log = log
        self.fail_fast = fail_fast
        self.cwd = Path.cwd()  # Ray's workers have one of their own
        self.owner = SweepsProcess() if ends_with_sweep else None
        self.project = active()

    def __call__(self, selection: Any) -> int | None:
        """Run the job `selection.index`; never raises, since a launcher would drop the others."""
        stop = self.sweep / f".stop-{self.session}"
        if self.owner is not None:
            self.owner.watch(stop)
        with busy:
            return None if stop.exists() else self._run_frozen(int(selection.index), stop)

    def _run_frozen(self, index: int, stop: Path) -> int:
        os.chdir(self.cwd)
        if self.project is not None:  # a cluster may start its workers with another environment
            os.environ[VARIABLE] = str(self.project)
            activate()
        # joblib's workers leave a way of starting processes that no data loader can use.
        multiprocessing.set_start_method(None, force=True)
        frozen = self.sweep / "jobs" / f"{index}.yaml"
        note(frozen, self.session, None)
        try:
            code = self._run(thaw(frozen, *self.grants[index]))
        except UserError as error:
            print(f"attnseg train: {error}", file=sys.stderr)
            code = USER_MISTAKE
        if code == INTERRUPTED or (self.fail_fast and code):
            write_text(stop, f"job {index} ended with {code}\n")
        note(frozen, self.session, code)
        return code

    def _run(self, config: TrainConfig) -> int:
        assert config.run.dir is not None
        folder = RunFolder(Path(config.run.dir))
        if not self.log:
            return run_job(config, folder)
        folder.path.mkdir(parents=True, exist_ok=True)
        with _into(folder.path / "output.log"):
            return run_job(config, folder)


def note(frozen: Path, session: str, exit_code: int | None) -> None:
    """Leave word beside a job's configuration that it has started, or how it ended."""
    write_json(frozen.with_suffix(".json"), {"session": session, "exit_code": exit_code})


def run_job(config: TrainConfig, folder: RunFolder) -> int:
    """Train one run; whatever happens to it is in its status, and in the exit code."""
    (folder.path / "traceback.txt").unlink(missing_ok=True)  # of an earlier attempt
    from attnseg.training.launch import launch

    try:
        # For while it is setting up: in training it has handlers of its own.
        with handled(_interrupt):
            code = launch(config)
    except UserError as error:
        print(f"attnseg train: {error}", file=sys.stderr)
        _settle(config, folder, USER_MISTAKE, str(error))
        return USER_MISTAKE
    except KeyboardInterrupt:
        _settle(config, folder, INTERRUPTED, "stopped at once")
        return INTERRUPTED
    except Exception as error:
        reason = wrong_path(error) or f"{type(error).__name__}: {error}"
        _settle(config, folder, FAILED, reason, traceback.format_exc())
        return FAILED
    if code and folder.path.is_dir():  # else it was deleted meanwhile
        _settle(config, folder, code, f"its process ended with exit code {code}")
    return code


def settle_dead(config: TrainConfig, folder: RunFolder) -> None:
    """A job's process has gone without a word."""
    reason = "its process was killed, or ran out of memory; the same command goes on with it"
    _settle(config, folder, FAILED, reason, f"No traceback: {reason}.\n")


def _settle(
    config: TrainConfig, folder: RunFolder, code: int, reason: str, text: str | None = None
) -> None:
    """Say in status.json how a job ended, where the training itself could not."""
    state = "interrupted" if code == INTERRUPTED else "failed"
    status = folder.read_status()
    if folder.is_held() or (state == "interrupted" and not status):
        return  # another process is training it, or nothing has begun
    changes: dict[str, Any] = {"exit_code": code}
    if status.get("state") != state:
        changes |= {"state": state, "reason": reason, "ended": now()}
        changes |= {**identity_record(config), "name": run_name(config)}
    folder.update_status(**changes)
    if text is not None and not (folder.path / "traceback.txt").exists():
        write_text(folder.path / "traceback.txt", concealed(text))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _into(path: Path) -> Iterator[None]:
    """Send everything that this process and its children print to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(kept, start=1):
            os.dup2(copy, number)
            os.close(copy)
