"""Where the package finds its own files."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """The shipped Hydra configs: inside an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"
