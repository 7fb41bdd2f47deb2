"""CSV tables that users write: read whole, with what is wrong said in words."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from attnseg.common.errors import ConfigError
from attnseg.common.files import as_written


def read_table(
    path: Path, needed: Sequence[str], hint: str = ""
) -> list[tuple[int, dict[str, str]]]:
    """Every row; a missing cell is blank.

    Args:
        path: an existing CSV, in UTF-8.
        needed: the columns that it must have.
        hint: added to the message about a missing column.

    Raises:
        ConfigError: unreadable, no text in UTF-8, or a column is missing or there twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            columns = list(reader.fieldnames or [])
            _check_columns(path, columns, needed, hint)
            rows = [(reader.line_num, row) for row in reader]
        _refuse_surplus(path, [line for line, row in rows if any(row.get(None, ()))])
        return [
            (line, {key: as_written((row[key] or "").strip()) for key in columns})
            for line, row in rows
        ]
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: no CSV in UTF-8; save it as one") from None
    except csv.Error as error:
        raise ConfigError(f"{path}: cannot be read as CSV: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be opened ({error.strerror})") from None


def _refuse_surplus(path: Path, lines: Sequence[int]) -> None:
    """A comma that is not quoted shifts every cell behind it."""
    if lines:
        which = ", ".join(map(str, lines[:10])) + (", ..." if len(lines) > 10 else "")
        raise ConfigError(
            f"{path}, line {which}: more cells than the header has columns; put a value that holds "
            'a comma in quotes ("a,b")'
        )


def _check_columns(path: Path, columns: Sequence[str], needed: Sequence[str], hint: str) -> None:
    missing = [name for name in needed if name not in columns]
    if missing:
        found = ", ".join(columns) or "none"
        raise ConfigError(
            f"{path}: no column named {' or '.join(missing)} (found: {found[:100]}){hint}"
        )
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise ConfigError(f"{path}: the column {' and '.join(twice)} is there twice; keep one")
