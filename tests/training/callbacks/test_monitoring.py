"""What counts as better, where a metric may be undefined."""

from __future__ import annotations

import math

import pytest

from attnseg.training.callbacks.monitoring import better

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "best", "mode", "expected"),
    [
        (0.2, 0.1, "max", True),
        (0.1, 0.1, "max", False),
        (0.1, 0.2, "min", True),
        (NAN, 0.1, "max", False),
        (NAN, NAN, "max", False),
        (0.1, NAN, "max", True),  # undefined in the first epochs, then not
        (0.1, NAN, "min", True),
    ],
)
def test_nan_is_never_better_and_gives_way_to_any_number(
    value: float, best: float, mode: str, expected: bool
) -> None:
    assert better(value, best, mode) is expected
