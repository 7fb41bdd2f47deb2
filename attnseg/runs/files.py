"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from attnseg.errors import ConfigError


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write beside the target, flush to the disk, then rename over it.

    The temporary file is beside the target, never in TMPDIR: a rename across file systems
    would be a copy, which a kill can cut in half.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path, key: str) -> None:
    """Make a folder to write to, before the work whose results it is for.

    Args:
        folder: made with its parents where it is missing.
        key: the configuration key that named it.

    Raises:
        ConfigError: there is a file in its place, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "it is read-only"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise ConfigError(f"{key}={folder}: cannot be written to ({reason}); choose another place")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda stream: stream.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is a programmer's error, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
