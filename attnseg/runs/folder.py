"""The run folder: where everything of one run is, and its status."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from attnseg.common.credentials import concealed
from attnseg.common.errors import ConfigError
from attnseg.common.files import remove_temporaries, watched, write_json, write_text
from attnseg.config import TrainConfig, validate
from attnseg.runs.content import Knowing, changes_since
from attnseg.runs.hold import held, is_held
from attnseg.runs.identity import (
    content_unknown,
    defining_part,
    differences,
    newest,
    recorded_ids,
    run_identity,
    run_ids,
    run_name,
    same_run,
    without_places,
)
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
    def content(self) -> Path:
        """What the data were made of; see `attnseg.runs.content`."""
        return self.path / "content.json"

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

    def data_changes(self, config: TrainConfig, data: Knowing) -> list[str]:
        """What has changed since this run was made in the data, a line a kind; the gravest first.

        Empty where nothing has, or where the run did not record it.
        """
        return changes_since(self.read_status().get("data"), self.content, config, data)

    def try_update_status(self, **changes: Any) -> None:
        """The same, where a status that cannot be written must not hide what happened."""
        with suppress(OSError):
            self.update_status(**changes)


def folder_of(config: TrainConfig) -> RunFolder:
    """The folder a configuration's run lives in: the same run, the same folder.

    One that was made under an older version of ids keeps its name.
    """
    if config.run.dir:
        return RunFolder(Path(config.run.dir))
    root, name = Path(config.run.root), run_name(config)
    folder = RunFolder(root / f"{name}-{run_identity(config)}")
    if folder.path.exists():
        return folder
    found = [run for run in runs_of(root, run_ids(config)) if run.path.name[:-9] == name]
    return found[0] if found else folder


def runs_of(root: Path, ids: Mapping[str, str]) -> list[RunFolder]:
    """The folders under run.root that hold this run; those without known content come last."""
    found = []
    for path in {path for value in ids.values() for path in root.glob(f"*-{value}")}:
        theirs = recorded_ids(RunFolder(path).read_status())
        if same_run(theirs, ids):
            found.append((content_unknown(theirs), path))
    return [RunFolder(path) for _, path in sorted(found)]


def refuse_foreign(folder: RunFolder, config: TrainConfig, data: Knowing) -> None:
    """Refuse a folder that holds another run, or this one on other data.

    Other data are no hindrance to `resume=none`, which starts afresh there.

    Args:
        folder: of the run.
        config: of the run, identified.
        data: to name what has changed.

    Raises:
        ConfigError: status.json there carries another identity; lists every key that differs,
            and what of the data does.
    """
    theirs, ours = recorded_ids(folder.read_status()), run_ids(config)
    if not folder.status.is_file() and (strange := _strange(folder.path)):
        raise ConfigError(
            f"run.dir={folder.path} is no run folder, and not empty (it holds {strange[0]}); "
            "choose another folder"
        )
    if not theirs or same_run(theirs, ours):
        return
    keys = _differences(folder, config)
    changed = folder.data_changes(config, data)
    if changed and not keys:
        if config.resume == "none":
            return
        raise ConfigError(
            "\n".join(
                [
                    f"{folder.path} holds this run on other data. What has changed since:",
                    *(f"  - {line}" for line in changed),
                    "put the data back, choose another run.dir for what they are now, or "
                    "resume=none to start afresh there",
                ]
            )
        )
    lines = [f"  - {line}" for line in [*keys, *(f"data: {line}" for line in changed)]]
    raise ConfigError(
        "\n".join(
            [
                f"run.dir={folder.path} holds another run (id {newest(theirs)}, this one is "
                f"{newest(ours)})"
                + (". What defines the run differs (there -> this command):" if lines else ";"),
                *lines,
                "give the same values, choose another folder, or delete that one",
            ]
        )
    )


def _strange(path: Path) -> list[str]:
    """What lies there that no training that was about to begin has left."""
    files = ("launch.yaml", "config.yaml", "content.json", "output.log", "metrics.csv")
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
    lines = differences(defining_part(config), defining_part(theirs))
    return without_places(lines, recorded_ids(folder.read_status()))


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
