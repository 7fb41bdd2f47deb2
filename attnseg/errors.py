"""Errors that are the user's to mend: shown as one message, without a traceback, exit code 2."""

from __future__ import annotations

from collections.abc import Sequence

FAILED = 1
"""The exit code of a run that failed by itself."""

USER_MISTAKE = 2
"""The exit code of every command that a UserError ends."""

INTERRUPTED = 75
"""The exit code of a run that was stopped and can be resumed (EX_TEMPFAIL: try again)."""


class UserError(Exception):
    """Something in the input is wrong; the message names it and says what to do."""


class ConfigError(UserError):
    """A key or value of the configuration is wrong."""


class CheckpointError(UserError):
    """A checkpoint is missing, unreadable, or of another model."""


class DataError(UserError):
    """A data set cannot be used; every problem found is listed at once.

    Args:
        headline: what could not be done, and with which data set.
        problems: one line a problem, each naming its file or case.
    """

    def __init__(self, headline: str, problems: Sequence[str] = ()) -> None:
        self.headline = headline
        self.problems = list(problems)
        super().__init__("\n".join([headline, *(f"  - {problem}" for problem in self.problems)]))


class NonFiniteLossError(RuntimeError):
    """A loss term became NaN or infinite during training (not the user's mistake: exit code 1)."""
