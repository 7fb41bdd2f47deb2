"""The ledger: metrics.csv, a run's own record, one row an epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from attnseg.files import read_csv, write_text

Row = dict[str, str]
_FIRST = ("epoch", "phase", "step")
_FAMILIES = ("weight/", "lr/", "train/loss/", "val/loss/", "train/", "val/")


def read_ledger(path: Path) -> list[Row]:
    """All rows as text; an absent ledger has none."""
    return read_csv(path) if path.exists() else []


def write_row(path: Path, row: Mapping[str, object]) -> None:
    """Add one epoch's row; rows of this and later epochs are replaced.

    A resume repeats what its checkpoint had not seen, so what an earlier attempt wrote past
    the checkpoint gives way: no gap, no double row. The file is rewritten as a whole (at most
    some hundred rows), so that it can gain columns and is never half written.
    """
    epoch = int(str(row["epoch"]))
    rows = [old for old in read_ledger(path) if int(old["epoch"]) < epoch]
    rows.append({key: _text(value) for key, value in row.items()})
    columns = sorted({key for each in rows for key in each}, key=_order)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def _text(value: object) -> str:
    """Full precision: repr of a float reads back to the same bits; NaN and None are blank."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _order(column: str) -> tuple[int, str]:
    if column in _FIRST:
        return _FIRST.index(column), ""
    for rank, family in enumerate(_FAMILIES, start=len(_FIRST)):
        if column.startswith(family):
            return rank, column
    return len(_FIRST) + len(_FAMILIES), column
