"""The ledger: one row an epoch, whatever happens between."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnseg.runs.ledger import Ledger, inspect_ledger, read_ledger, write_row


def test_rows_add_up_and_columns_may_grow(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_row(path, {"epoch": 1, "phase": "a", "step": 3, "train/loss/total": 0.5})
    write_row(path, {"epoch": 2, "phase": "a", "step": 6, "val/dice_positive": 0.1})
    rows = read_ledger(path)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert rows[0]["val/dice_positive"] == ""
    assert list(rows[0])[:3] == ["epoch", "phase", "step"]


def test_a_resume_leaves_no_double_row_and_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for epoch in (1, 2, 3):
        write_row(path, {"epoch": epoch, "x": float(epoch)})
    write_row(path, {"epoch": 2, "x": 9.0})
    assert [(row["epoch"], row["x"]) for row in read_ledger(path)] == [("1", "1.0"), ("2", "9.0")]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back_to_the_bit(value: float) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.csv"
        write_row(path, {"epoch": 1, "x": value})
        assert float(read_ledger(path)[0]["x"]) == value


def test_nan_is_blank(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_row(path, {"epoch": 1, "x": math.nan, "y": None})
    assert read_ledger(path)[0] == {"epoch": "1", "x": "", "y": ""}


GOOD = "epoch,phase,step,x\n1,a,3,0.5\n2,a,6,\n3,a,9,0.25\n"


@pytest.mark.parametrize(
    ("text", "epochs", "word"),
    [
        (GOOD, "123", ""),
        (GOOD[:-1], "12", "line 4 is cut off"),  # 0.25 may have been 0.2531
        (GOOD[:-4], "12", "line 4"),
        (GOOD[:-7], "12", "line 4"),
        (GOOD + "4", "123", "line 5"),
        (GOOD + "\0" * 40, "123", "line 5"),
        (GOOD + "\0\0\0\n", "123", "line 5"),
        (GOOD.replace("2,a,6,", "2,a,\0\0"), "13", "line 3"),
        (GOOD.replace("0.5", "0.5x"), "23", "line 2"),
        (GOOD.replace("3,a,9", "3,\udcff,9"), "12", "line 4"),
        (GOOD.replace("1,a,3,0.5", "-1,a,3,0.5"), "23", "line 2"),
        (GOOD.replace("1,a,3,0.5", '1,"a,3,0.5'), "", "line 4"),  # an open quote takes the rest
        (GOOD.replace("\n", "\r\n"), "123", ""),  # an editor's
        ("epoch,phase", "", ""),
        ("", "", "not a ledger"),
        ("\0" * 100, "", "not a ledger"),
    ],
)
def test_what_is_damaged_does_not_count_and_is_told(
    tmp_path: Path, text: str, epochs: str, word: str
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    found = inspect_ledger(path)
    assert "".join(row["epoch"] for row in found.rows) == epochs
    assert word in found.problem
    assert (str(path) in found.problem) == bool(word)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    assert "cannot be read as a ledger" in inspect_ledger(tmp_path / "metrics.csv").problem
    assert inspect_ledger(tmp_path / "absent.csv") == Ledger([])


def test_rows_that_are_known_are_not_read_from_a_file_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    rows = write_row(path, {"epoch": 1, "x": 0.5})
    path.write_text("epoch,x\n1,0.")
    write_row(path, {"epoch": 2, "x": 0.7}, rows)
    assert [row["x"] for row in read_ledger(path)] == ["0.5", "0.7"]
