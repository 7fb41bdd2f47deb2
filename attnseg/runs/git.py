"""Where a working tree of git stands."""

from __future__ import annotations

import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GitState:
    """Where a working tree stands.

    Attributes:
        commit: the full hash of HEAD.
        remote: the URL of `origin`, without credentials; None where there is none.
        dirty: whether tracked files differ from the commit.
    """

    commit: str
    remote: str | None
    dirty: bool


def git_state(place: Path) -> GitState | None:
    """The state of the working tree that a folder is in; None outside one."""
    commit = git(place, "rev-parse", "HEAD")
    if not commit:
        return None
    remote = git(place, "remote", "get-url", "origin")
    if remote and "@" in remote and "://" in remote:
        scheme, _, rest = remote.partition("://")
        remote = f"{scheme}://{rest.rpartition('@')[2]}"
    dirty = bool(git(place, "status", "--porcelain", "--untracked-files=no"))
    return GitState(commit.strip(), (remote or "").strip() or None, dirty)


@functools.cache
def state_of_file(file: Path) -> GitState | None:
    """The same for a file, asked once a process; None where git does not keep that file.

    A virtual environment may lie in the working tree of something else.
    """
    tracked = git(file.parent, "ls-files", "--error-unmatch", file.name) is not None
    return git_state(file.parent) if tracked else None


def git(place: Path, *words: str) -> str | None:
    """What a command of git says; None where it fails, or there is no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(place), *words], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
