from __future__ import annotations

from attnseg.common.errors import DataError
from attnseg.common.listing import shortened


def test_a_few_lines_stay_as_they_are() -> None:
    lines = [f"/data/{i}.png: no such file" for i in range(9)] + ["b: another thing"]
    assert shortened(lines) == lines


def test_many_alike_are_named_a_few_times_and_counted() -> None:
    missing = [f"/data/{i}.png: no such file" for i in range(100_000)]
    rows = [f"m.csv, line {i}: case c{i}: mask is blank; write 'none'" for i in range(50)]
    lines = [line for pair in zip(missing, rows, strict=False) for line in pair] + missing[50:]
    short = shortened(lines)
    assert short[:5] == missing[:5]
    assert short[5] == "... and 99,995 more like these"
    assert short[6:] == [*rows[:5], "... and 45 more like these"]
    error = DataError("cannot be used:", lines)
    assert error.problems == lines
    assert len(str(error).splitlines()) == 13


def test_names_of_every_kind_do_not_make_it_long() -> None:
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    assert len(shortened([f"patient {word}: has cases but no split" for word in words])) == 6
    assert len(shortened([f"{word}: something {word} else" for word in words])) == 41
    assert "60 others" in shortened([f"{word}: something {word} else" for word in words])[-1]
