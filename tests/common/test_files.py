"""Atomic writes: the target is the old content or the new, never a part."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import IO

import pytest

import attnseg
from attnseg.common.errors import ConfigError
from attnseg.common.files import (
    csv_text,
    make_folder,
    matching,
    read_csv,
    replace_folder,
    sqlite_url,
    user_path,
    write_atomically,
    write_json,
)
from attnseg.common.tables import read_table


def test_a_failed_write_leaves_the_old_content_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def fail(stream: IO[bytes]) -> None:
        stream.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_nan_never_reaches_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    place = tmp_path / "case"
    for content in ("first", "second"):
        new = tmp_path / f".new-{content}"
        new.mkdir()
        (new / content).touch()
        replace_folder(new, place)
        assert [path.name for path in place.iterdir()] == [content]
    assert list(tmp_path.iterdir()) == [place]


DANGEROUS = (
    '=HYPERLINK("http://x")',
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\n=1",
    " =1",
    "＝1",
    "-",
    "'=1",
    "''+x",
)
HARMLESS = ("a=b", "a-1", "-1.5", "+3", "-1e-05", "", "'a", "it's", "1-2", ".5", "患者", "a,b", '"')


def test_no_cell_is_a_formula_and_every_cell_reads_back(tmp_path: Path) -> None:

    cells = [*DANGEROUS, *HARMLESS]
    rows = [{"name": cell, "=number": -1.5} for cell in cells]
    text = csv_text(["name", "=number"], rows)
    with (tmp_path / "table.csv").open("w", newline="") as stream:
        stream.write(text)
    header, *written = list(csv.reader(io.StringIO(text)))
    assert header == ["name", "'=number"]
    assert [row[0] for row in written] == [*(f"'{cell}" for cell in DANGEROUS), *HARMLESS]
    assert {row[1] for row in written} == {"-1.5"}
    assert [row["name"] for row in read_csv(tmp_path / "table.csv")] == cells
    assert csv_text(["a", "b"], [["=1", 2]], header=False) == "'=1,2\n"
    assert csv_text(["a"], [["\r=1"]], header=False) == '"\'\n=1"\n'


def test_one_function_writes_all_tables() -> None:
    """A second `csv.writer` would write formulas."""
    package = Path(attnseg.__file__).parent
    sources = {str(p.relative_to(package)): p.read_text() for p in package.rglob("*.py")}
    writers = [name for name, text in sources.items() if re.search(r"csv\.\w*[wW]riter", text)]
    assert writers == ["common/files.py"]


def test_a_table_that_users_give_reads_back_what_was_written(tmp_path: Path) -> None:

    table = tmp_path / "manifest.csv"
    table.write_text(csv_text(["case", "xray"], [["=a", "-b.png"], ["-1", "+c/d.png"]]))
    rows = [row for _, row in read_table(table, ("case",))]
    assert rows == [{"case": "=a", "xray": "-b.png"}, {"case": "-1", "xray": "+c/d.png"}]


def test_a_place_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out=.*\\xe9x: is not UTF-8"):
        make_folder(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9x")), "out")


def test_a_name_may_begin_with_a_tilde_and_hold_a_globs_brackets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~/a", "~nobody at all", "a[1] *x/b.png", "a1/b.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert user_path("~/a") == Path("~/a")  # it is there
    assert user_path("~/other") == Path.home() / "other"
    assert user_path("~nobody else/x") == Path("~nobody else/x")
    assert matching("a[1] *x/*.png") == (Path("a[1] *x"), [Path("a[1] *x/b.png")])
    assert matching("a[1]/*.png") == (Path(), [Path("a1/b.png")])
    assert matching(tmp_path / "*" / "b.png")[1] == [
        tmp_path / "a1/b.png",
        tmp_path / "a[1] *x/b.png",
    ]


def test_a_database_may_lie_anywhere(tmp_path: Path) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    for name in ("a?b", "a#b", "100%41", "é 患者", "a;b&c=d", "a@b:c"):
        path = tmp_path / name / "x.db"
        path.parent.mkdir()
        with sqlalchemy.create_engine(sqlite_url(path)).begin() as connection:
            connection.execute(sqlalchemy.text("create table t (x int)"))
        assert path.is_file(), name
