"""What a mistyped metric is told."""

from __future__ import annotations

import pytest

from attnseg.common.errors import ConfigError
from attnseg.metrics.names import no_such_metric, refuse_unknown


def test_a_mistyped_metric_is_told_its_neighbours_or_all_that_there_are() -> None:
    known = ["val/nss", "val/dice_positive"]
    assert "did you mean val/dice_positive" in str(no_such_metric("k", "val/dcie_positive", known))
    far = str(no_such_metric("k", "qqqqqqqq", known))
    assert far == "k=qqqqqqqq: no such metric; there are ['val/dice_positive', 'val/nss']"


@pytest.mark.parametrize("name", ["val/dice_positive", "val/loss/total", "train/nss"])
def test_what_a_run_gives_may_be_watched(name: str) -> None:
    refuse_unknown([("k", name)], has_attention=True)


@pytest.mark.parametrize(("name", "has_attention"), [("val/x", True), ("val/nss", False)])
def test_what_it_does_not_give_may_not(name: str, has_attention: bool) -> None:
    with pytest.raises(ConfigError, match=f"k={name}: no such metric"):
        refuse_unknown([("k", name)], has_attention=has_attention)
