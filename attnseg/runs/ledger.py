"""The ledger: metrics.csv, a run's own record, one row an epoch."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnseg.common.files import as_written, csv_text, write_text

Row = dict[str, str]
_FIRST = ("epoch", "phase", "step")
_FAMILIES = ("weight/", "lr/", "train/loss/", "val/loss/", "train/", "val/")
_SHOWN = 5  # lines that a problem names


@dataclass(frozen=True)
class Ledger:
    """What a metrics.csv holds.

    Attributes:
        rows: those that are whole, as text, by epoch.
        problem: what is wrong with the file, naming it; empty where nothing is.
    """

    rows: list[Row]
    problem: str = ""


def inspect_ledger(path: Path) -> Ledger:
    """Read a ledger as far as it can be; never raises.

    A row counts where it is whole: as many cells as the header, an epoch, numbers or blanks, and
    its end. What a full disk, a power failure or another program has cut off or filled with NUL
    bytes is no row.
    """
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return Ledger([])
    except OSError as error:
        return Ledger([], f"{path}: cannot be read as a ledger ({error.strerror})")
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: list[Row] = []
    broken: list[int] = []
    try:
        columns = [as_written(name) for name in next(reader, [])]
        if "epoch" not in columns:
            return Ledger([], f"{path}: is not a ledger (it has no column 'epoch')")
        whole = text.count("\n")  # a last line without its end may lack digits
        for cells in reader:
            row = dict(zip(columns, map(as_written, cells), strict=False))
            sound = len(cells) == len(columns) and all(map(_sound, row, row.values()))
            if sound and reader.line_num <= whole:
                rows.append(row)
            else:
                broken.append(reader.line_num)
    except csv.Error:
        broken.append(reader.line_num)
    rows.sort(key=lambda row: int(row["epoch"]))
    if not broken:
        return Ledger(rows)
    lines = ", ".join(map(str, broken[:_SHOWN])) + ("..." if len(broken) > _SHOWN else "")
    return Ledger(rows, f"{path}: line {lines} is cut off or damaged, and does not count")


def read_ledger(path: Path) -> list[Row]:
    """All whole rows as text, by epoch; an absent ledger has none."""
    return inspect_ledger(path).rows


def write_row(
    path: Path | None, row: Mapping[str, object], before: Sequence[Row] | None = None
) -> list[Row]:
    """Add one epoch's row; rows of this and later epochs are replaced.

    A resume repeats what its checkpoint had not seen, so what an earlier attempt wrote past
    the checkpoint gives way: no gap, no double row. The file is rewritten as a whole (at most
    some hundred rows), so that it can gain columns and is never half written.

    Args:
        path: metrics.csv; None: nothing is written.
        row: of the epoch.
        before: the rows of earlier epochs; None: those of the file.

    Returns:
        All rows.
    """
    epoch = int(str(row["epoch"]))
    known = read_ledger(path) if before is None and path is not None else before or []
    rows = [old for old in known if int(old["epoch"]) < epoch]
    rows.append({sys.intern(key): _text(value) for key, value in row.items()})
    if path is not None:
        write_rows(path, rows)
    return rows


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a ledger anew."""
    columns = sorted({key for each in rows for key in each}, key=_order)
    write_text(path, csv_text(columns, rows))


def lost_epochs(rows: Sequence[Row], known: Sequence[Row]) -> list[str]:
    """The epochs of the known rows that a ledger lacks, or has otherwise."""
    there = {row["epoch"]: _filled(row) for row in rows}
    return [row["epoch"] for row in known if there.get(row["epoch"]) != _filled(row)]


def _filled(row: Row) -> Row:
    return {key: cell for key, cell in row.items() if cell}


def _sound(column: str, cell: str) -> bool:
    """Whether a cell can be what was written: an epoch, a name, a number or nothing."""
    if column == "phase":
        return not {"\0", "\ufffd"} & set(cell)
    if column == "epoch":
        return cell.isdecimal()
    try:
        float(cell or "0")
    except ValueError:
        return False
    return True


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
