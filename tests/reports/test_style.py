"""Words and targets."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from attnseg.reports.style import TARGETS, as_float, mean, number, shorten


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (1234.5, "1234"),
        (3, "3"),
        (1.0, "1"),
        (2.5e-6, "2.5e-06"),
        (-0.5, "-0.5"),
        ("0.25", "0.25"),
        (math.nan, "–"),
        (None, "–"),
        ("", "–"),
        (math.inf, "inf"),
        ("joint", "joint"),
    ],
)
def test_number(value: object, text: str) -> None:
    assert number(value) == text


def test_targets_are_strict_and_nan_meets_none() -> None:
    assert TARGETS["attention_gt_overlap"].met(0.61)
    assert not TARGETS["attention_gt_overlap"].met(0.6)
    assert TARGETS["attention_gt_distance"].met(49.9)
    assert not TARGETS["attention_gt_distance"].met(50.0)
    assert not any(target.met(math.nan) for target in TARGETS.values())


def test_shorten_keeps_both_ends() -> None:
    text = "LIDC-IDRI-0001_01-01-2000-NA-NA-30178_3000566.000000-NA-03192"
    short = shorten(text, 30)
    assert len(short) == 30
    assert short.startswith("LIDC-IDRI-0001")
    assert short.endswith("03192")
    assert shorten("short") == "short"


def test_blank_cells_are_nan_and_left_out_of_means() -> None:
    assert math.isnan(as_float(""))
    assert math.isnan(as_float(None))
    assert mean([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(mean([]))


def test_importing_the_room_imports_no_matplotlib() -> None:
    code = (
        "import sys, attnseg.reports.page, attnseg.reports.overlays;"
        "heavy = {'matplotlib', 'scipy', 'jinja2', 'PIL', 'torch'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
