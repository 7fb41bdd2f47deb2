"""Runs and their data: what a folder records of them, and which folders have other ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnseg.config import TrainConfig
from attnseg.runs.content import Knowing, read_content, write_content
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import identity_record, newest, recorded_ids, run_ids, same_run

if TYPE_CHECKING:
    from attnseg.data.digest import Content


def record_content(folder: RunFolder, content: Content) -> None:
    """Write content.json, where it does not say that already."""
    known = read_content(folder.content)
    if known is None or known.digest != content.digest:
        write_content(folder.content, content)


def adopt_ids(folder: RunFolder, config: TrainConfig, data: Knowing) -> None:
    """Give a run of before there were digests today's ids; its folder keeps its name.

    Args:
        folder: its status.json has an id of version 1 alone.
        config: of the same run, identified.
        data: today's, taken for what it was trained on.
    """
    status = folder.read_status()
    record = {**(status.get("data") or {}), "digest": config.data_digest}
    identity = identity_record(config)
    folder.update_status(**identity, logged_as=status.get("id"), data=record)
    record_content(folder, data.content)


def logged_as(folder: RunFolder, config: TrainConfig) -> str:
    """The id that loggers know a run by: that of its first start."""
    status = folder.read_status()
    ids, theirs = run_ids(config), recorded_ids(status)
    if status.get("logged_as") and same_run(theirs, ids):
        return str(status["logged_as"])
    return newest(ids)


def runs_on_other_data(folder: RunFolder, config: TrainConfig) -> list[RunFolder]:
    """The runs in run.root of this configuration whose data had another content."""
    ours = identity_record(config)
    found = []
    for path in sorted(Path(config.run.root).glob("*/status.json")):
        other = RunFolder(path.parent)
        if other.path.resolve() == folder.path.resolve():
            continue
        theirs = other.read_status()
        same = theirs.get("configuration") == ours["configuration"]
        if same and not same_run(recorded_ids(theirs), ours["ids"]):
            found.append(other)
    return found
