"""What state a run is in: the one definition, and how a run folder tells it.

Everything that names or asks for a state (sweeps, lists, comparisons, pruning, training itself)
does so by this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from attnseg.runs.folder import RunFolder

State = Literal[
    "finished",  # trained to its end: all epochs of its schedule, or stopped early
    "partial",  # cut short by trainer.max_epochs or the like; without it the same command goes on
    "pruned",  # given up by a search
    "running",  # a process is training it
    "interrupted",  # stopped on request
    "crashed",  # its status says running, and no process is
    "failed",  # ended by an error of its own
    "pending",  # nothing of it has begun
    "invalid",  # a sweep's job whose configuration is wrong
    "changed",  # a sweep's job whose run was made by code that has changed since
    "gone",  # a sweep lists it as begun, and its folder is not there
    "unknown",  # its status.json is missing or broken
]
STATES: tuple[State, ...] = get_args(State)

RESUMABLE: tuple[State, ...] = ("partial", "interrupted", "crashed")
"""What the same command goes on with."""

TROUBLED: tuple[State, ...] = (
    *("failed", "crashed", "interrupted", "invalid", "changed", "gone", "unknown"),
)
"""What somebody should look at."""


def read_state(
    folder: RunFolder, total: int | None, status: Mapping[str, Any] | None = None
) -> tuple[State, str]:
    """A run's state as it really is, and why.

    Args:
        folder: the run's.
        total: epochs of its schedule; None where that is not known.
        status: its status, where it has been read already.
    """
    status = folder.read_status() if status is None else status
    said, reason = str(status.get("state") or ""), str(status.get("reason") or "")
    if not status:
        return _without_status(folder)
    if said == "running":
        if folder.is_held():
            return "running", reason
        return "crashed", "its process is gone; the same command goes on from its last save"
    if said == "finished":
        done = status.get("epoch")
        cut = isinstance(done, int) and total is not None and done < total
        if cut and reason != "early stopping":
            limit = reason if reason.startswith("trainer.") else "trainer.max_epochs"
            return "partial", f"cut short after {done} of {total} epochs ({limit})"
    for state in STATES:
        if state == said:
            return state, reason
    return "unknown", f"{folder.status} says '{said}', which is no state" if said else reason


def has_nothing_left(state: str, status: Mapping[str, Any], max_epochs: int | None) -> bool:
    """Whether a command has nothing to train any more: a run that an earlier one cut short by
    `max_epochs` may have, or not."""
    if state == "partial" and max_epochs is not None:
        return int(status.get("epoch", 0)) >= max_epochs
    return state == "finished"


def _without_status(folder: RunFolder) -> tuple[State, str]:
    files = (folder.status, folder.ledger, folder.last, folder.best)
    if any(path.exists() for path in files):
        return "unknown", "its status.json is missing or broken"
    return "pending", ""
