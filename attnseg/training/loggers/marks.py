"""What W&B has of a run, as far as this machine knows: <run folder>/wandb/sent.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from attnseg.common.files import write_json
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger


@dataclass(frozen=True)
class Sent:
    """What was sent.

    Attributes:
        id: of the W&B run.
        url: where it is.
        epoch: the last one sent.
        state: of the training run by then (running, interrupted, failed, finished).
        started: when the training run was begun; another value means that it was begun afresh.
    """

    id: str
    url: str
    epoch: int
    state: str
    started: str | None


def mark_of(folder: RunFolder, run_id: str, url: str, state: str) -> Sent:
    """The mark of a run whose records have all been sent now."""
    rows = read_ledger(folder.ledger)
    started = folder.read_status().get("started")
    return Sent(run_id, url, int(rows[-1]["epoch"]) if rows else 0, state, started)


def read_sent(folder: RunFolder) -> Sent | None:
    """The mark, or None where nothing was sent, or nothing that can be read."""
    try:
        return Sent(**json.loads(_path(folder).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_sent(folder: RunFolder, sent: Sent) -> None:
    """Leave the mark; W&B's own `wandb sync` then skips this run's pieces, too."""
    write_json(_path(folder), asdict(sent))
    for piece in (folder.path / "wandb").glob("*run-*/run-*.wandb"):
        piece.with_name(f"{piece.name}.synced").touch()


def is_sent(folder: RunFolder) -> bool:
    """Whether W&B has all there is: no epoch more, no other state, not begun afresh."""
    sent = read_sent(folder)
    if sent is None:
        return False
    status = folder.read_status()
    return sent == mark_of(folder, sent.id, sent.url, str(status.get("state")))


def _path(folder: RunFolder) -> Path:
    return folder.path / "wandb" / "sent.json"
