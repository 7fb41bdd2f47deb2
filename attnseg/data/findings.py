"""What is wrong with a data set, one thing at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from typing import Literal

Level = Literal["error", "warning"]
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One thing wrong: `error` must not be trained on, `warning` makes the result doubtful.

    Training refuses every error that it can know without decoding all images anew: what
    `attnseg data check` finds beyond that are files that changed since a data card was written.
    """

    level: Level
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.message}"


def some(names: Collection[str], most: int = _NAMED) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(islice(names, most)) + (f" and {more} more" if more > 0 else "")
