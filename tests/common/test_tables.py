"""CSV tables: what is wrong with one is said in one message that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.common.errors import ConfigError
from attnseg.common.tables import read_table


def test_rows_have_their_line_and_stripped_text(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(b"\xef\xbb\xbfa,b\n 1, 2 \n\n3\n4,5\n")
    rows = read_table(table, ("a", "b"))
    assert rows == [(2, {"a": "1", "b": "2"}), (4, {"a": "3", "b": ""}), (5, {"a": "4", "b": "5"})]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no column named a or b"),
        (b"a;b\n1;2\n", "found: a;b"),
        (b"a,b,a\n1,2,3\n", "the column a is there twice"),
        ("a,b\n\u00e9,2\n".encode("latin1"), "UTF-8"),
        ("a,b\n1,2\n".encode("utf16"), "UTF-8"),
        (b"a,b\n" + b"x" * 200_000 + b",2\n", "cannot be read as CSV"),
    ],
)
def test_what_cannot_be_used_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as error:
        read_table(table, ("a", "b"))
    assert str(table) in str(error.value)


def test_a_row_with_more_cells_than_columns_is_named(tmp_path: Path) -> None:
    """Else a comma in a file name would shift what follows it, silently."""
    path = tmp_path / "cases.csv"
    path.write_text("a,b\n1,2\n1,2,3\n4,5,,\n")
    with pytest.raises(ConfigError, match=r"cases\.csv, line 3: more cells than"):
        read_table(path, ["a"])
