"""Where a run begins: afresh, or where it stopped."""

from __future__ import annotations

from pathlib import Path

from attnseg.config import TrainConfig
from attnseg.errors import ConfigError
from attnseg.runs.checkpoints import KEY, find_checkpoint, read_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import defining_part, differences, run_identity


def resume_point(config: TrainConfig, folder: RunFolder) -> Path | None:
    """The checkpoint to go on from, or None for a fresh start.

    Raises:
        ConfigError: the checkpoint is of a run that another configuration defines; every key
            that differs is listed.
        CheckpointError: `run.resume` names none, or one that cannot be read.
    """
    wanted = config.run.resume
    if wanted == "none":
        return None
    if wanted == "auto":
        if not folder.last.is_file():
            return None
        path = folder.last
    else:
        given = Path(wanted)
        last = RunFolder(given).last
        path = last if given.is_dir() and last.is_file() else find_checkpoint(wanted)
    record = read_checkpoint(path).get(KEY)
    if not isinstance(record, dict):
        raise ConfigError(f"run.resume: {path} is no checkpoint of attnseg")
    if record.get("identity") != run_identity(config):
        theirs = _defining(record)
        lines = differences(defining_part(config), theirs)
        raise ConfigError(
            "\n".join(
                [
                    f"cannot resume {path}: it is of another run. What defines the run differs "
                    "(checkpoint -> this command):",
                    *(f"  - {line}" for line in lines),
                    "give the same values, another run.dir, or run.resume=none to start afresh",
                ]
            )
        )
    return path


def _defining(record: dict[str, object]) -> dict[str, object]:
    from attnseg.config import validate

    config = record["config"]
    assert isinstance(config, dict)
    return defining_part(validate(config, TrainConfig))
