"""What is known of metrics without torch: names, meanings, good ends; mistakes are told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from attnseg.common.errors import ConfigError
from attnseg.config.measures import (
    measure_of,
    no_such_metric,
    refuse_unknown,
    refuse_wrong_end,
)

SAID = {"rough": {"definition": "of the outline", "unit": "px", "higher_is_better": False}}


def test_a_mistyped_metric_is_told_its_neighbours_or_all_that_there_are() -> None:
    known = ["val/nss", "val/dice_positive"]
    assert "did you mean val/dice_positive" in str(no_such_metric("k", "val/dcie_positive", known))
    far = str(no_such_metric("k", "qqqqqqqq", known))
    assert far == "k=qqqqqqqq: no such metric; there are ['val/dice_positive', 'val/nss']"


@pytest.mark.parametrize(
    "name", ["val/dice_positive", "val/loss/total", "train/nss", "val/rough", "val/rough_mm"]
)
def test_what_a_run_gives_may_be_watched(name: str) -> None:
    refuse_unknown([("k", name)], has_attention=True, others=["rough"])


@pytest.mark.parametrize(
    ("name", "has_attention"), [("val/x", True), ("val/nss", False), ("val/rouhg", True)]
)
def test_what_it_does_not_give_may_not(name: str, has_attention: bool) -> None:
    with pytest.raises(ConfigError, match=f"k={name}: no such metric"):
        refuse_unknown([("k", name)], has_attention=has_attention, others=["rough"])


@pytest.mark.parametrize(
    ("name", "highest", "say"),
    [
        ("val/dice_positive", False, "higher: give callbacks.checkpoint.mode=max"),
        ("val/loss/total", True, "lower: give callbacks.checkpoint.mode=min"),
        ("val/rough_mm", True, "lower: give callbacks.checkpoint.mode=min"),
        ("val/dice_positive", True, None),
        ("val/attention_std", False, None),
        ("val/unknown", True, None),
    ],
)
def test_nobody_looks_for_the_worst(name: str, highest: bool, say: str | None) -> None:
    watched = [("callbacks.checkpoint.monitor", name, highest)]
    if say is None:
        refuse_wrong_end(watched, SAID)
        return
    with pytest.raises(ConfigError, match=say):
        refuse_wrong_end(watched, SAID)


def test_what_is_recorded_of_others_is_read() -> None:
    measure = measure_of("val/rough", SAID)
    assert measure is not None and measure.line == "px: of the outline"
    assert measure_of("val/rough") is None
    assert measure_of("val/roughest", SAID) is None


def test_nothing_of_it_imports_torch() -> None:
    code = "import sys; from attnseg.config.measures import own_measures\n"
    code += "assert len(own_measures()) > 60 and 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
