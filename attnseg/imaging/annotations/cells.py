"""Cells of annotation tables, with what is wrong with them in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attnseg.common.errors import DataError
from attnseg.common.tables import read_table


class Cells:
    """One row: `number` and `rating` note what is wrong and go on, so that all is told at once.

    Args:
        row: from `attnseg.common.tables.read_table`.
        where: the row's place, for messages.
        problems: where the lines go.
    """

    def __init__(self, row: Mapping[str, str], where: str, problems: list[str]) -> None:
        self._row, self._where, self._problems = row, where, problems
        self.ok = True

    def wrong(self, what: str) -> None:
        """Note something wrong with the row."""
        self.ok = False
        self._problems.append(f"{self._where}: {what}")

    def text(self, key: str) -> str:
        """A cell that may not be blank."""
        if not self._row[key]:
            self.wrong(f"{key} is blank")
        return self._row[key]

    def number(self, key: str, *, least: float = -math.inf) -> float:
        """A finite number, not below `least`; 0 where it is none."""
        text = self._row[key]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.wrong(f"{key} is blank" if not text else f"{key} is {text!r}, which is no number")
            return 0.0
        if value < least:
            self.wrong(f"{key} is {value:g}; it cannot be below {least:g}")
        return value

    def positive(self, key: str) -> float:
        """A finite number above 0; 0 where it is none."""
        value = self.number(key)
        if self.ok and value <= 0:
            self.wrong(f"{key} is {value:g}; it must be above 0")
        return value

    def rating(self, key: str) -> int | None:
        """1 to 5; blank or an absent column is none."""
        text = self._row.get(key, "")
        if not text:
            return None
        if text not in ("1", "2", "3", "4", "5"):
            self.wrong(f"{key} is {text!r}; it is rated from 1 to 5")
            return None
        return int(text)


def read_cells(path: Path, columns: Sequence[str], problems: list[str]) -> list[tuple[int, Cells]]:
    """Every row of a table by its line; what is wrong with one goes to `problems`.

    Raises:
        DataError: there is no such file.
        ConfigError: it is no table, or a column is missing.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    rows = read_table(path, columns)
    return [(line, Cells(row, f"{path}, line {line}", problems)) for line, row in rows]


def refuse_rows(path: Path, problems: Sequence[str]) -> None:
    """Raise DataError with every problem of a table's rows, where there is one."""
    if problems:
        raise DataError(f"{path}: has rows that cannot be understood:", problems)


def repeated(keys: Sequence[str], line_of: Callable[[int], str]) -> list[str]:
    """One line for each key that is there again."""
    first: dict[str, int] = {}
    found = []
    for place, key in enumerate(keys):
        if key in first:
            found.append(f"{line_of(place)}: {key} is already in {line_of(first[key])}; keep one")
        first.setdefault(key, place)
    return found
