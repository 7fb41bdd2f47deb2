"""Processes that work for a sweep end with it, also where it was killed without a word."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import NoReturn

from attnseg.common.errors import INTERRUPTED
from attnseg.common.files import write_text

POLL_S = 1.0

busy = threading.Lock()
"""Held while this process runs a job."""


def started(pid: int) -> str | None:
    """When a living process of this machine began, on the kernel's clock; None: there is none.

    With the number it names the process: numbers are given again. "" where no /proc tells.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None if Path("/proc/self/stat").exists() or not _exists(pid) else ""
    state, *fields = text.rpartition(")")[2].split()
    return None if state == "Z" else fields[18]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class SweepsProcess:
    """The process that makes this object, as its workers on the same machine see it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.started = started(self.pid)

    def gone(self) -> bool:
        """Whether it has ended."""
        return started(self.pid) != self.started

    def watch(self, stop_marker: Path) -> None:
        """From the first call on, end this process once that one has gone.

        No further job starts then, a job that runs is stopped as by SIGTERM, so that it saves.
        """
        if os.getpid() != self.pid and self.pid not in _watched:
            _watched.add(self.pid)
            threading.Thread(target=self._end_with_it, args=(stop_marker,), daemon=True).start()

    def _end_with_it(self, stop_marker: Path) -> NoReturn:
        while not self.gone():
            time.sleep(POLL_S)
        write_text(stop_marker, "SIGTERM: the sweep's process has gone\n")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        with busy:
            os._exit(INTERRUPTED)


_watched: set[int] = set()
