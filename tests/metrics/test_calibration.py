"""The Brier score against NumPy, and where evaluations have it."""

from __future__ import annotations

import numpy as np
import pytest

from attnseg.config.measures import measure_of, validation_names

from . import tester


def test_brier_is_the_mean_squared_difference() -> None:
    cases = tester.mixture()
    wanted = [np.mean((case.probability - (case.mask > 0.5)) ** 2) for case in cases]
    got = tester.run(cases, evaluation=True)
    assert got["brier"] == pytest.approx(np.mean(wanted), rel=1e-6)


def test_evaluations_alone_have_it_and_lower_is_better() -> None:
    measure = measure_of("brier")
    assert measure is not None and measure.evaluation and measure.higher_is_better is False
    assert "brier" not in validation_names(has_attention=True)
