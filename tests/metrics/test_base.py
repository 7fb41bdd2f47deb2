"""States of rows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.common.errors import NonFiniteError
from attnseg.metrics.base import CaseMetric
from attnseg.metrics.collection import TrainingMetrics, ValidationMetrics
from tests.metrics import tester


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


@pytest.mark.parametrize("kind", [TrainingMetrics, ValidationMetrics])
@pytest.mark.parametrize("which", ["attention", "probability"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_measured(kind: type, which: str, value: float) -> None:
    """A comparison with NaN is false, and with a threshold would have been a prediction."""
    batch = tester.tensors([tester.lifelike(1, (24, 24), 2)])
    batch[which][0, 0, 3, 3] = value
    metrics = kind()
    for one in metrics.values(copy_state=False):
        if which == "probability" or "attention" in one.update.__wrapped__.__code__.co_varnames:
            with pytest.raises(NonFiniteError, match="nothing to measure"):
                one.update(**one._filter_kwargs(**batch))
    with pytest.raises(NonFiniteError):
        metrics.update(**batch)
