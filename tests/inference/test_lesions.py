"""Position and size in px and mm, score, box: against shapes whose figures are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attnseg.inference.lesions import COLUMNS, find_lesions


def test_two_lesions_by_hand() -> None:
    probability = np.zeros((20, 30), np.float32)
    probability[2:6, 10:13] = 0.6
    probability[3, 11] = 0.7
    probability[15:17, 20:22] = 0.9
    attention = np.full_like(probability, 0.25)
    std = np.where(probability > 0.8, np.float32(0.1), np.float32(0.2))
    mask, lesions = find_lesions(
        probability, 0.5, attention=attention, std=std, entropy=std, spacing=(0.5, 2.0)
    )
    assert mask.sum() == 16
    first, second = (lesion.record() for lesion in lesions)
    assert first["lesion"] == 1 and first["score"] == pytest.approx(0.9)
    assert second["score"] == pytest.approx(0.7)
    assert (second["row_px"], second["column_px"]) == (3.5, 11.0)
    assert (second["row_mm"], second["column_mm"]) == (1.75, 22.0)
    assert second["area_px"] == 12 and second["area_mm2"] == 12.0
    assert second["diameter_mm"] == pytest.approx(math.sqrt(4 / math.pi * 12.0), abs=1e-5)
    assert second["box_top_px"] == 2 and second["box_left_px"] == 10
    assert second["box_height_px"] == 4 and second["box_width_px"] == 3
    assert second["mean_attention"] == 0.25
    assert second["uncertainty_std"] == pytest.approx(0.2)
    assert {*first, "case", "pathways"} == set(COLUMNS)


def test_without_spacing_or_attention_nothing_is_invented() -> None:
    probability = np.zeros((9, 9), np.float32)
    probability[4, 4] = 1.0
    _, [lesion] = find_lesions(probability, 0.5)
    record = lesion.record()
    unknown = {name for name, value in record.items() if value is None}
    assert unknown == {
        "row_mm",
        "column_mm",
        "area_mm2",
        "diameter_mm",
        "mean_attention",
        "uncertainty_std",
        "uncertainty_entropy",
    }


def test_pixels_that_touch_at_a_corner_are_one_and_small_ones_can_go() -> None:
    probability = np.zeros((9, 9), np.float32)
    probability[1, 1] = probability[2, 2] = probability[7, 7] = 0.8
    mask, lesions = find_lesions(probability, 0.5, min_px=2)
    assert len(lesions) == 1 and mask.sum() == 2 and mask[7, 7] == 0


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (12, 15), elements=st.floats(0, 1, width=32)), st.floats(0.05, 0.95))
def test_lesions_partition_the_mask(probability: np.ndarray, threshold: float) -> None:
    mask, lesions = find_lesions(probability, threshold)
    np.testing.assert_array_equal(mask, probability > np.float32(threshold))
    assert sum(lesion.area_px for lesion in lesions) == mask.sum()
    scores = [lesion.score for lesion in lesions]
    assert scores == sorted(scores, reverse=True)
    for lesion in lesions:
        top, left, height, width = lesion.box
        assert top <= lesion.row_px <= top + height - 1
        assert left <= lesion.column_px <= left + width - 1
