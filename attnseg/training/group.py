"""Groups of processes: who started this one, and starting one on this machine by torchrun."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Literal

from attnseg.common.errors import FAILED, INTERRUPTED, UNANSWERED, USER_MISTAKE
from attnseg.common.signals import heeded
from attnseg.training.watchdog import killing_stopped

FELL = -1
"""What `run_group` answers when a process was killed or silent: the group can be started again."""

_LAUNCHER = "ATTNSEG_LAUNCHER_PID"


def group() -> Literal["torchrun", "slurm"] | None:
    """Who started this process as one of a group; None where nobody did.

    A SLURM step counts, a batch script alone does not, whatever number of tasks it asked for.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    return "slurm" if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 else None


def first_of_group() -> bool:
    """Whether what concerns the whole group is this process's to say."""
    rank = {"torchrun": "RANK", "slurm": "SLURM_PROCID", None: ""}[group()]
    return os.environ.get(rank, "0") == "0"


def run_group(count: int, command: Sequence[str], *, grace_s: int, timeout_s: int) -> int:
    """Start `count` processes of `python command...` on this machine and wait for them.

    Stop signals are passed on to all of them; they have `grace_s` seconds to finish a step and
    save. If this process is killed, so are they; and so is one that is stopped (SIGSTOP) for
    `timeout_s` seconds.

    Returns:
        0; or the exit code they agree on: interrupted before the user's mistake before failed;
        or `FELL` if one was killed by a signal, or gave the others no answer in time.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Its own account of a failed child is a page of tracebacks; ours is the exit code.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    os.environ[_LAUNCHER] = str(os.getpid())
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,  # ours tells a killed process from one that failed by itself
        signals_to_handle=",".join(number.name for number in heeded(signal.SIGUSR1)),
        shutdown_timeout=grace_s,
    )
    with _own_handlers(), killing_stopped(settings.run_id, timeout_s):
        try:
            elastic_launch(settings, sys.executable)(*command)
        except ChildFailedError as error:
            codes = [failure.exitcode for failure in error.failures.values()]
            # Of the others, torchrun itself ends by SIGTERM who does not end with the first.
            if any(code < 0 and code != -signal.SIGTERM for code in codes):
                return FELL
            own = [code for code in codes if code not in (UNANSWERED, -signal.SIGTERM)]
            if UNANSWERED in codes and not own:
                return FELL
            return next((c for c in (INTERRUPTED, USER_MISTAKE) if c in codes), FAILED)
        except SignalException:
            return INTERRUPTED
        finally:  # what this process starts later is no part of the group
            del os.environ[_LAUNCHER]
    return 0


def die_with_launcher() -> None:
    """Let this process be killed when its launcher is (Linux); an orphan would hold the run."""
    launcher = os.environ.get(_LAUNCHER)
    if launcher is None or not sys.platform.startswith("linux"):
        return
    parent_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
    if os.getppid() != int(launcher):  # it was killed before this was said
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _own_handlers() -> Iterator[None]:
    """Give back the handlers that torchrun replaces: a sweep goes on in this process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in heeded(signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
