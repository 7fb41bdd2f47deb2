"""The ledger: one row an epoch, whatever happens between."""

from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from attnseg.runs.ledger import read_ledger, write_row


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
