"""The code a run was made with: the package's source, the git commit, and what differs from it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from attnseg.files import write_json, write_text
from attnseg.paths import conf_dir
from attnseg.runs.folder import RunFolder


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


def code_folder(folder: RunFolder) -> Path:
    """Where a run keeps its code."""
    return folder.path / "code"


def take_snapshot(folder: RunFolder) -> GitState | None:
    """Copy the package's source and configs into the run folder, with git's state and diff.

    Returns:
        git's state, or None outside a working tree.

    Raises:
        OSError: the disk is full, say.
    """
    target = code_folder(folder)
    shutil.rmtree(target, ignore_errors=True)
    package = Path(__file__).resolve().parents[1]
    for source, name, pattern in ((package, "attnseg", "*.py"), (conf_dir(), "conf", "*.yaml")):
        for path in sorted(source.rglob(pattern)):
            copy = target / name / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for place in (Path.cwd(), package):
        if (state := _git_state(place)) is not None:
            write_json(target / "git.json", asdict(state))
            write_text(target / "diff.patch", _git(place, "diff", "HEAD") or "")
            return state
    return None


def read_snapshot(folder: RunFolder) -> GitState | None:
    """The git state that a run has recorded."""
    try:
        return GitState(**json.loads((code_folder(folder) / "git.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _git_state(place: Path) -> GitState | None:
    commit = _git(place, "rev-parse", "HEAD")
    if not commit:
        return None
    remote = _git(place, "remote", "get-url", "origin")
    if remote and "@" in remote and "://" in remote:
        scheme, _, rest = remote.partition("://")
        remote = f"{scheme}://{rest.rpartition('@')[2]}"
    dirty = bool(_git(place, "status", "--porcelain", "--untracked-files=no"))
    return GitState(commit.strip(), (remote or "").strip() or None, dirty)


def _git(place: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(place), *words], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
