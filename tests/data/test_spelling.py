from __future__ import annotations

import pytest

from attnseg.data.spelling import canonical, look_alikes, shown


@pytest.mark.parametrize(
    "names",
    [
        (
            "PAT1",
            "pat1",
            "Pat01",
            "PAT-1",
            "pat_001",
            "PAT 1",
            "PAT\u00a01",
            "P\u200bAT1",
            "PAT1\x00",
        ),
        ("01", "001", "1", "\uff11", "\u0661", "1\ufeff"),
        ("Jos\u00e9", "Jose\u0301", "JOS\u00c9", "Jos\u00e9\ufe0f"),
        ("LIDC-IDRI-0001", "lidc-idri-1", "LIDC\u2010IDRI\u20130001", "LIDC_IDRI_0001"),
        ("\u60a3\u800501", "\u60a3\u80051", "\u60a3\u2060\u80051"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_what_looks_the_same_is_the_same(names: tuple[str, ...]) -> None:
    assert len({canonical(name) for name in names}) == 1
    assert look_alikes(names) == [sorted(names)]
    assert len({shown(name) for name in names}) == len(names)
    assert all(shown(name).isprintable() for name in names)


@pytest.mark.parametrize(
    "names",
    [
        ("1-12", "11-2", "112"),
        ("10", "1", "100"),
        ("1.2.84.0", "1.28.4.0"),
        ("visit1.05", "visit1.5"),
        ("a", "b", "A2"),
        ("\u60a3\u8005", "\u60a3"),
    ],
)
def test_what_differs_stays_apart(names: tuple[str, ...]) -> None:
    assert look_alikes(names) == []


def test_what_one_does_not_see_is_shown() -> None:
    assert shown("PAT 1") == "'PAT 1'"
    assert shown("P\u200bAT\u00a01") == r"'P\u200bAT\xa01'"
    assert shown("Jose\u0301") == r"'Jose\u0301'"
    assert shown("Jos\u00e9") == "'Jos\u00e9'"
