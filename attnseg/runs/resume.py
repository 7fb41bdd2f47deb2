"""Where a run begins: afresh, or where it stopped."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import IO

from attnseg.config import TrainConfig
from attnseg.errors import ConfigError
from attnseg.runs.checkpoints import KEY, find_checkpoint, read_checkpoint
from attnseg.runs.files import write_atomically
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import defining_part, differences, run_identity


def refuse_other_data(record: object, fingerprint: str, place: Path) -> None:
    """Refuse to go on with other cases: where data lie (data.root) does not define a run.

    Args:
        record: the data record of what is there, or None (an older one has no fingerprint).
        fingerprint: of the cases that this command trains on.
        place: what the record is of.

    Raises:
        ConfigError: the fingerprints differ.
    """
    theirs = record.get("fingerprint") if isinstance(record, dict) else None
    if theirs not in (None, fingerprint):
        raise ConfigError(
            f"{place} is of a run on other cases than those in data.root; choose another run.dir "
            "or run.name, or run.resume=none to start afresh there"
        )


def resume_point(config: TrainConfig, folder: RunFolder, fingerprint: str) -> Path | None:
    """The checkpoint to go on from, or None for a fresh start.

    Raises:
        ConfigError: the checkpoint is of a run that another configuration defines (every key
            that differs is listed), or of other cases.
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
        path = last if given.is_dir() and last.is_file() else find_checkpoint(wanted, "run.resume")
    content = read_checkpoint(path)
    record = content.get(KEY)
    if not isinstance(record, dict) or "optimizer_states" not in content:
        raise ConfigError(
            f"run.resume: {path} is no checkpoint of attnseg's training; give a run folder, or "
            "run.resume=none to start afresh"
        )
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
    refuse_other_data(record.get("data"), fingerprint, path)
    return path


def adopt(start: Path, folder: RunFolder) -> None:
    """Take over what another folder knows of the run: the checkpoints and the ledger.

    Without them a run that goes on elsewhere would lack its first epochs, and its best.ckpt.
    """
    home = RunFolder(start.parent.parent if start.parent.name == "checkpoints" else start.parent)
    if home.path.resolve() == folder.path.resolve():
        return
    pairs = ((start, folder.last), (home.best, folder.best), (home.ledger, folder.ledger))
    for source, target in pairs:
        if source.is_file():
            write_atomically(target, partial(_pour, source))


def _pour(source: Path, stream: IO[bytes]) -> None:
    with source.open("rb") as content:
        shutil.copyfileobj(content, stream)


def _defining(record: dict[str, object]) -> dict[str, object]:
    from attnseg.config import validate

    config = record["config"]
    assert isinstance(config, dict)
    return defining_part(validate(config, TrainConfig))
