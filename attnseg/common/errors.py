"""Errors that are the user's to mend: shown as one message, without a traceback, exit code 2."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from attnseg.common.credentials import concealed
from attnseg.common.listing import readable, shortened

FAILED = 1
"""The exit code of a run that failed by itself."""

USER_MISTAKE = 2
"""The exit code of every command that a UserError ends."""

INTERRUPTED = 75
"""The exit code of a run that was stopped and can be resumed (EX_TEMPFAIL: try again)."""

UNANSWERED = 76
"""The exit code of a process of a group to which another one has given no answer."""


class UserError(Exception):
    """Something in the input is wrong; the message names it and says what to do.

    Passwords and tokens are taken out of it: messages go into logs and records.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(concealed(readable(message)))


class ConfigError(UserError):
    """A key or value of the configuration is wrong."""


class CheckpointError(UserError):
    """A checkpoint is missing, unreadable, or of another model."""


class DataError(UserError):
    """A data set cannot be used; every problem found is listed at once, many alike as one.

    Args:
        headline: what could not be done, and with which data set.
        problems: one line a problem, each naming its file or case.
    """

    def __init__(self, headline: str, problems: Sequence[str] = ()) -> None:
        self.headline: str = concealed(readable(headline))
        self.problems: list[str] = concealed([readable(problem) for problem in problems])
        lines = (f"  - {line}" for line in shortened(self.problems))
        super().__init__("\n".join([self.headline, *lines]))


_OF_THE_PATH = {
    errno.ENAMETOOLONG: "a name in it is too long for the file system",
    errno.ELOOP: "its links lead in a circle",
    errno.EACCES: "not permitted",
    errno.EPERM: "not permitted",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of it is a file, not a folder",
    errno.EISDIR: "a folder, not a file",
    errno.EEXIST: "something else is there",
}


def wrong_path(error: Exception) -> str | None:
    """What is wrong with a path that a user gave; None where the error is of another kind."""
    if isinstance(error, WriteError):
        return str(error)
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop from "):
        return f"{str(error).removeprefix('Symlink loop from ')}: its links lead in a circle"
    if not isinstance(error, OSError) or error.errno not in _OF_THE_PATH or not error.filename:
        return None
    name = str(error.filename)
    shown = name if len(name) < 300 else f"{name[:200]}...{name[-60:]}"
    return f"{shown}: {_OF_THE_PATH[error.errno]}; choose another path"


class NonFiniteError(RuntimeError):
    """A loss, an output or a weight became NaN or infinite (not a user's mistake: exit code 1)."""


class FolderLostError(OSError):
    """A run folder was deleted, moved or replaced while a run trained in it (exit code 1)."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))

    def __str__(self) -> str:
        """One line: the folder, and what to do."""
        return (
            f"{self.args[0]} was deleted, moved or taken by another process while this run trained "
            "in it: stopped, and nothing more was written there. Put the folder back to go on "
            "from its last checkpoint; without it the same command begins anew"
        )


class WriteError(OSError):
    """A file could not be written (exit code 1): the disk is full, say. The old one is intact."""

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror or str(cause), str(path))

    def __str__(self) -> str:
        """One line: the file, why, and what to do."""
        return (
            f"{self.filename} could not be written ({self.strerror}); what was there before is "
            "intact. Make room, or choose another place, and give the same command again"
        )
