"""The signals that ask a process to stop, and who hears them; imports nothing heavy."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill` (and most schedulers), and a terminal or connection that is gone."""

Handler = Callable[[int, FrameType | None], Any]


def heeded(*more: signal.Signals) -> list[signal.Signals]:
    """STOP and `more`, without the SIGHUP that nohup has switched off."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [each for each in (*STOP, *more) if not (ignored and each == signal.SIGHUP)]


@contextmanager
def handled(handler: Handler, *more: signal.Signals) -> Iterator[list[signal.Signals]]:
    """Let `handler` hear STOP and `more`, then give back what was there.

    Yields the signals that it hears: none outside the main thread, where Python allows no handler.
    """
    previous: dict[signal.Signals, Any] = {}
    with suppress(ValueError):
        for number in heeded(*more):
            previous[number] = signal.signal(number, handler)
    try:
        yield list(previous)
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def outlive_readers() -> None:
    """Send output that nobody can take any more to nowhere, as printing it would raise.

    The terminal, or the `tee` behind a pipe, has often gone by the same signal that this process
    has still to act upon. To be called again after a while: `tee` may be slower to go.
    """
    for output in (1, 2):
        with suppress(OSError):
            asked = select.poll()
            asked.register(output, select.POLLOUT)
            if any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0)):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, output)
                os.close(nowhere)


def worker_options(num_workers: int) -> dict[str, Any]:
    """How a `DataLoader` starts its workers: so that stopping is left to this process.

    On Linux they are forked, whatever this process starts others by: a fresh interpreter has
    threads of its libraries before `leave_to_parent` can keep signals from them.
    """
    forked = num_workers > 0 and sys.platform == "linux"
    return {
        "num_workers": num_workers,
        "worker_init_fn": leave_to_parent,
        "multiprocessing_context": "fork" if forked else None,
    }


def leave_to_parent(worker_id: int = 0) -> None:
    """Let a data loader's worker go on when its whole process group is asked to stop.

    Its parent has still to finish a step or an epoch with what the worker loads, and ends it
    itself; the handlers that a worker inherits would stop it as if it were the run.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere nobody tells who has sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(parent: int) -> None:
    """End this process at the SIGTERM of its parent: a loader ends so a worker that hangs."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
