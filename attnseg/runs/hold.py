"""Who trains in a run folder: told by the system's lock, or by host, process and heartbeat.

The lock is on a file that stays, `.lock`: were it removed, a process that had opened the old one
and a process that made a new one could both hold it. A killed process lets go by itself. The file
names its owner and is touched every `BEAT_S` seconds, for file systems without locks, where the
rule is: an owner on this machine is alive while its process is; one elsewhere until its last sign
of life is `STALE_S` seconds old.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from attnseg.common.errors import ConfigError, FolderLostError

BEAT_S = 30.0
STALE_S = 300.0
_FILE = ".lock"
_TRIES = 3  # a reader holds the lock for a moment, too


@dataclass(frozen=True)
class Owner:
    """A process that trains, as it has signed.

    Attributes:
        host, pid: where it is.
        started: when its process began, in the machine's ticks, as numbers of processes come
            again; empty where the system does not tell.
        machine: host, boot and container; equal where process numbers mean the same.
        locked: whether the file system gave it a lock.
    """

    host: str
    pid: int
    started: str
    machine: str
    locked: bool

    @classmethod
    def me(cls, *, locked: bool) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _started(pid) or "", _machine(), locked)

    def is_alive(self, last_sign: float) -> bool:
        """Whether it still trains, going by its process or its last sign of life (a time)."""
        if self.machine == _machine():
            return _started(self.pid) == self.started
        return time.time() - last_sign < STALE_S


class Hold:
    """A folder that this process trains in."""

    def __init__(self, path: Path, stream: IO[str], owner: Owner) -> None:
        self.path = path
        self._stream = stream
        self._owner = owner
        self._done = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def check(self) -> None:
        """Refuse to go on where the folder is not the one that was taken.

        Raises:
            FolderLostError: it was deleted, moved or replaced, or (where there are no locks)
                somebody else has taken it.
        """
        mine = os.fstat(self._stream.fileno())
        try:
            there = (self.path / _FILE).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise FolderLostError(self.path) from None
        except OSError:  # a moment's trouble; the write itself will tell
            return
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise FolderLostError(self.path)
        if not self._owner.locked and _read_owner(self._stream) != self._owner:
            raise FolderLostError(self.path)

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Sign, and give signs of life until the end."""
        _sign(self._stream, json.dumps(asdict(self._owner)))
        self._heart.start()
        try:
            yield
        finally:
            self._done.set()
            self._heart.join()
            with suppress(OSError, FolderLostError):
                self.check()
                _sign(self._stream, "")

    def _beat(self) -> None:
        while not self._done.wait(BEAT_S):
            with suppress(OSError):
                os.utime(self._stream.fileno())


@contextmanager
def held(path: Path) -> Iterator[Hold]:
    """Keep other processes from training in a folder.

    Raises:
        ConfigError: another process is training in it.
    """
    with alone(path) as (stream, trouble):
        hold = Hold(path, stream, Owner.me(locked=not trouble))
        if trouble:
            print(
                f"note: {path} is on a file system without locks ({trouble}); another start is "
                "told of this one by host, process and a sign of life, and is refused until "
                f"that is {STALE_S / 60:g} minutes old",
                flush=True,
            )
        with hold.alive():
            yield hold


@contextmanager
def alone(path: Path) -> Iterator[tuple[IO[str], str]]:
    """Have a folder to oneself for a moment, unsigned.

    Yields:
        The lock's file, and why the file system gives no lock (empty where it does).

    Raises:
        ConfigError: another process is training in it.
    """
    fresh = not (path / _FILE).exists()
    with (path / _FILE).open("a+") as stream:
        if fresh:  # what is not signed is no sign of life
            os.utime(stream.fileno(), (0.0, 0.0))
        trouble = ""
        for left in reversed(range(_TRIES)):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise _busy(path, _read_owner(stream)) from None
                time.sleep(0.05)
            except OSError as error:
                trouble = error.strerror or type(error).__name__
                break
        owner = _read_owner(stream)
        if owner is not None and _owns(owner, stream, locks=not trouble):
            raise _busy(path, owner, time.time() - os.fstat(stream.fileno()).st_mtime)
        yield stream, trouble


def is_held(path: Path) -> bool:
    """Whether a process is training in a folder right now."""
    try:
        with (path / _FILE).open("r") as stream:
            locks = True
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                locks = False
            owner = _read_owner(stream)
            return owner is not None and _owns(owner, stream, locks=locks)
    except OSError:  # there is none, or it cannot be read
        return False


def _owns(owner: Owner, stream: IO[str], *, locks: bool) -> bool:
    """Whether the owner that signed still has the folder, whose lock nobody has."""
    if locks and owner.locked:  # it had the lock, and has it no more
        return False
    return owner.is_alive(os.fstat(stream.fileno()).st_mtime)


def _busy(path: Path, owner: Owner | None, age: float | None = None) -> ConfigError:
    who = f"process {owner.pid} on {owner.host}" if owner else "one that has not signed"
    sign = "" if age is None else f", last sign of life {max(age, 0):.0f} s ago"
    return ConfigError(
        f"{path}: another process is training this run ({who}{sign}); wait for it, or choose "
        "another run.dir"
    )


def _sign(stream: IO[str], text: str) -> None:
    stream.seek(0)
    stream.truncate(0)
    stream.write(text)
    stream.flush()


def _read_owner(stream: IO[str]) -> Owner | None:
    try:
        stream.seek(0)
        return Owner(**json.loads(stream.read()))
    except (OSError, ValueError, TypeError):
        return None


def _machine() -> str:
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When a process began; None where there is none (or only its corpse)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return ""
