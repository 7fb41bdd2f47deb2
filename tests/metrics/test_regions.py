"""NumPy's way on a CPU and torch's way on any other device give the same numbers."""

from __future__ import annotations

import math

import pytest

from attnseg.metrics import maps, regions, values

from . import tester


def test_both_ways_agree_on_every_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = tester.mixture()
    by_numpy = tester.run(cases, threshold=0.4)
    calls = []

    def elsewhere(tensor: object) -> bool:
        calls.append(tensor)
        return False

    for module in (regions, maps, values):
        monkeypatch.setattr(module, "on_cpu", elsewhere)
    by_torch = tester.run(cases, threshold=0.4)
    assert calls
    assert not any(math.isnan(by_numpy[name]) for name in ("attention_gt_corr", "dice_positive"))
    tester.assert_same(by_torch, by_numpy, tolerance=1e-9)
