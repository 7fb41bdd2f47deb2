"""Processes of a group that are stopped (SIGSTOP) do not hold up the others for ever."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def killing_stopped(run_id: str, timeout_s: float) -> Iterator[None]:
    """Kill children of this process that have been stopped for `timeout_s` seconds (Linux).

    Args:
        run_id: torchrun's, which its processes have in their environment.
        timeout_s: counted while this process itself runs: a job that is suspended as a whole
            (by SLURM, say) loses none of it.
    """
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run_id, timeout_s, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(run_id: str, timeout_s: float, ended: threading.Event) -> None:
    period = min(10.0, timeout_s / 5)
    stopped: dict[int, float] = {}
    while not ended.wait(period):
        stopped = {pid: stopped.get(pid, 0.0) + period for pid in _stopped_processes(run_id)}
        for pid, seconds in stopped.items():
            if seconds >= timeout_s:
                print(
                    f"process {pid} of the group has been stopped for {seconds:.0f} s "
                    "(run.timeout_s): it is killed",
                    file=sys.stderr,
                    flush=True,
                )
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _stopped_processes(run_id: str) -> list[int]:
    mark = f"TORCHELASTIC_RUN_ID={run_id}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "T" or int(parent) != os.getpid():
                continue
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
