"""A launcher's frozen configuration: the keyboard's own words, for as long as nobody changes them.

Whoever starts the process hands over the file's digest (by argv, or in the job that a launcher
carries), so that a folder that was changed in between cannot say what code runs. Packages that
are trusted go the same way, and stand in no file, nor do secrets (`attnseg.runs.recorded`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from attnseg.common.errors import ConfigError
from attnseg.common.files import write_text
from attnseg.config import TrainConfig
from attnseg.runs.recorded import frozen, thawed


def freeze(config: TrainConfig, path: Path) -> list[str]:
    """Write a configuration for another process to train from.

    Returns:
        What `thaw` needs beside the path: the file's SHA-256, and the packages that are trusted.
    """
    text = yaml.safe_dump(frozen(config), sort_keys=False)
    write_text(path, text)
    return [hashlib.sha256(text.encode()).hexdigest(), *config.trust]


def thaw(path: Path, digest: str, *trust: str) -> TrainConfig:
    """Read back what `freeze` wrote, given what it returned.

    Raises:
        ConfigError: the file is not what was frozen.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ConfigError(
            f"{path}: is not what the launcher has written (its SHA-256 is another); nothing is "
            "run from it. Give the same command again, and let nothing else write there"
        )
    config = thawed(yaml.safe_load(content))
    return config.model_copy(update={"trust": list(trust)})
