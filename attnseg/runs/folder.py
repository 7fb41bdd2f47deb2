"""The run folder: where everything of one run is, and its status."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from attnseg.config import TrainConfig, validate
from attnseg.credentials import concealed
from attnseg.errors import ConfigError
from attnseg.files import remove_temporaries, watched, write_json, write_text
from attnseg.runs.hold import held, is_held
from attnseg.runs.identity import defining_part, differences, run_identity, run_name
from attnseg.runs.recorded import recorded


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run; nothing is created before it is written."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def status(self) -> Path:
        """State, times, best metric, versions."""
        return self.path / "status.json"

    @property
    def ledger(self) -> Path:
        """One row an epoch."""
        return self.path / "metrics.csv"

    @property
    def last(self) -> Path:
        """The newest checkpoint, with everything a resume needs."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best monitored value."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def report(self) -> Path:
        """Pictures and report.html."""
        return self.path / "report"

    @property
    def page(self) -> Path:
        """The report itself."""
        return self.report / "report.html"

    def lacks_report(self) -> bool:
        """Whether the report of a run that has ended was never written, or not to its end."""
        begun = self.read_status().get("report") == "pending"
        return begun or (self.ledger.is_file() and not self.page.is_file())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training in this folder; a killed one lets go by itself.

        What a killed process left half written is removed. Until the end, no write of this
        process makes the folder anew where it was deleted.

        Raises:
            ConfigError: another process is training in it.
        """
        with held(self.path) as hold, watched(self.path, hold.check):
            for folder in (self.path, self.last.parent, self.report):
                remove_temporaries(folder)
            yield

    def is_held(self) -> bool:
        """Whether a process is training in the folder right now (`held`)."""
        return is_held(self.path)

    def write_config(self, config: TrainConfig) -> None:
        """Write config.yaml."""
        import yaml

        write_text(self.config, yaml.safe_dump(recorded(config), sort_keys=False))

    def read_status(self) -> dict[str, Any]:
        """The status, or an empty dict where there is none that can be read."""
        try:
            return dict(json.loads(self.status.read_text()))
        except (OSError, ValueError):
            return {}

    def update_status(self, **changes: Any) -> None:
        """Change some keys of status.json."""
        write_json(self.status, {**self.read_status(), "updated": now(), **concealed(changes)})

    def try_update_status(self, **changes: Any) -> None:
        """The same, where a status that cannot be written must not hide what happened."""
        with suppress(OSError):
            self.update_status(**changes)


def folder_of(config: TrainConfig) -> RunFolder:
    """The folder a configuration's run lives in: the same configuration, the same folder."""
    if config.run.dir:
        return RunFolder(Path(config.run.dir))
    return RunFolder(Path(config.run.root) / f"{run_name(config)}-{run_identity(config)}")


def refuse_foreign(folder: RunFolder, config: TrainConfig) -> None:
    """Refuse a folder that holds another run.

    Raises:
        ConfigError: status.json there carries another identity; lists every key that differs.
    """
    theirs, ours = folder.read_status().get("id"), run_identity(config)
    if not folder.status.is_file() and (strange := _strange(folder.path)):
        raise ConfigError(
            f"run.dir={folder.path} is no run folder, and not empty (it holds {strange[0]}); "
            "choose another folder"
        )
    if theirs in (None, ours):
        return
    lines = [f"  - {line}" for line in _differences(folder, config)]
    raise ConfigError(
        "\n".join(
            [
                f"run.dir={folder.path} holds another run (id {theirs}, this one is {ours})"
                + (". What defines the run differs (there -> this command):" if lines else ";"),
                *lines,
                "give the same values, choose another folder, or delete that one",
            ]
        )
    )


def _strange(path: Path) -> list[str]:
    """What lies there that no training that was about to begin has left."""
    files = ("launch.yaml", "config.yaml", "output.log", "metrics.csv")
    ours = {*files, "checkpoints", "report", "wandb", "tensorboard"}
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError:
        return []
    return [n for n in names if n not in ours and not n.startswith((".", "traceback"))]


def _differences(folder: RunFolder, config: TrainConfig) -> list[str]:
    """Key by key, or nothing where config.yaml there cannot be read."""
    import yaml

    try:
        theirs = validate(yaml.safe_load(folder.config.read_text()), TrainConfig)
    except (OSError, TypeError, ValueError, yaml.YAMLError, ConfigError):
        return []
    return differences(defining_part(config), defining_part(theirs))


def now() -> str:
    """UTC time, ISO 8601, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """What the run ran on: versions, machine, process."""
    packages = ("attnseg", "torch", "pytorch-lightning", "monai", "numpy", "hydra-core")
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": versions | {"python": platform.python_version()},
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": concealed(" ".join(word.removeprefix("++") for word in sys.argv)),
    }
