"""Where the package finds its own files, and keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

from attnseg.common.files import user_path
from attnseg.common.project import active


def conf_dir() -> Path:
    """The shipped Hydra configs: inside an installed wheel, or beside the package in a checkout."""
    return _shipped("conf")


def example_dir() -> Path:
    """The example projects, likewise."""
    return _shipped("examples")


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parents[1]
    installed = package / name
    return installed if installed.is_dir() else package.parent / name


def conf_dirs() -> list[Path]:
    """The shipped configs, and those of the project that this process works in."""
    project = active()
    return [conf_dir(), *([project / "conf"] if project is not None else [])]


def cache_folder(configured: str | None) -> Path:
    """`configured`, else $ATTNSEG_CACHE, else ~/.cache/attnseg."""
    chosen = configured or os.environ.get("ATTNSEG_CACHE") or "~/.cache/attnseg"
    return user_path(chosen)
