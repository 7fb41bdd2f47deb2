"""Where the package finds its own files, and keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

from attnseg.common.files import user_path


def conf_dir() -> Path:
    """The shipped Hydra configs: inside an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def cache_folder(configured: str | None) -> Path:
    """`configured`, else $ATTNSEG_CACHE, else ~/.cache/attnseg."""
    chosen = configured or os.environ.get("ATTNSEG_CACHE") or "~/.cache/attnseg"
    return user_path(chosen)
