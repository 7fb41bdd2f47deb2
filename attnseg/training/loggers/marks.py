"""What W&B has of a run, as far as this machine knows: <run folder>/wandb/sent.json."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from attnseg.common.files import write_json
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from attnseg.training.loggers.media import evaluations_of


@dataclass(frozen=True)
class Sent:
    """What was sent.

    Attributes:
        id: of the W&B run.
        url: where it is.
        epoch: the last one sent.
        state: of the training run by then (running, interrupted, failed, finished).
        started: when the training run was begun; another value means that it was begun afresh.
        evaluations: a digest of the evaluations in its folder; empty where there are none.
    """

    id: str
    url: str
    epoch: int
    state: str
    started: str | None
    evaluations: str = ""


def mark_of(folder: RunFolder, run_id: str, url: str, state: str) -> Sent:
    """The mark of a run whose records have all been sent now."""
    rows = read_ledger(folder.ledger)
    started = folder.read_status().get("started")
    epoch = int(rows[-1]["epoch"]) if rows else 0
    return Sent(run_id, url, epoch, state, started, _evaluations(folder))


def _evaluations(folder: RunFolder) -> str:
    found = evaluations_of(folder)
    digest = hashlib.sha256()
    for results in found:
        digest.update(results.name.encode() + (results / "metrics.json").read_bytes())
    return digest.hexdigest()[:16] if found else ""


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
