"""States of rows."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.metrics.base import CaseMetric


class Rows(CaseMetric):
    def __init__(self) -> None:
        super().__init__()
        self.add_rows("kept", 1, torch.float32)

    def update(self, values: torch.Tensor) -> None:
        self.append_rows("kept", values)

    def compute(self) -> torch.Tensor:  # torchmetrics asks for one
        return self.rows("kept")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=80))
def test_rows_stay_in_order_and_in_few_pieces(lengths: list[int]) -> None:
    """Many small pieces would keep a validation's large temporary arrays from being given back."""
    metric, values = Rows(), torch.arange(float(sum(lengths)))[:, None]
    for part in values.split(lengths) if lengths else ():
        metric.update(part)
    assert torch.equal(metric.rows("kept"), values)
    assert len(metric.kept) <= 1 + math.log2(max(len(values), 1))  # type: ignore[arg-type]
    metric.reset()
    assert metric.rows("kept").shape == (0, 1)
