"""The code a run was made with: the package's source, the git commit, and what differs from it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from attnseg.common.files import write_json, write_text
from attnseg.common.paths import conf_dir
from attnseg.common.project import active
from attnseg.runs.folder import RunFolder
from attnseg.runs.git import GitState, git, git_state, state_of_file


def code_folder(folder: RunFolder) -> Path:
    """Where a run keeps its code."""
    return folder.path / "code"


def commit() -> GitState | None:
    """Where the code stands that makes a run: the project's, else attnseg's; None without git."""
    if (project := active()) is not None and (state := git_state(project)) is not None:
        return state
    return state_of_file(Path(__file__).resolve())


def take_snapshot(folder: RunFolder) -> GitState | None:
    """Copy the package's source and configs into the run folder, with git's state and diff.

    Returns:
        git's state, or None outside a working tree.

    Raises:
        OSError: the disk is full, say.
    """
    target = code_folder(folder)
    shutil.rmtree(target, ignore_errors=True)
    package = Path(__file__).resolve().parents[2]
    for source, name, pattern in ((package, "attnseg", "*.py"), (conf_dir(), "conf", "*.yaml")):
        for path in sorted(source.rglob(pattern)):
            copy = target / name / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for place in (Path.cwd(), package):
        if (state := git_state(place)) is not None:
            write_json(target / "git.json", asdict(state))
            write_text(target / "diff.patch", git(place, "diff", "HEAD") or "")
            return state
    return None


def read_snapshot(folder: RunFolder) -> GitState | None:
    """The git state that a run has recorded."""
    try:
        return GitState(**json.loads((code_folder(folder) / "git.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
