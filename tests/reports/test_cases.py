"""Classes of cases: one row for each, and what is not known."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnseg.reports.cases import CLASSES, classify_case, collapsed, predicted_ratio

HEALTHY = {
    "case_id": "a",
    "n_mask_pixels": 100,
    "n_predicted_pixels": 120,
    "dice": 0.7,
    "attention_gt_overlap": 0.9,
    "attention_seg_overlap": 0.5,
    "seg_gt_overlap": 0.9,
    "attention_min": 0.0,
    "attention_max": 1.0,
    "attention_std": 0.05,
}
WRONG = {"attention_gt_overlap": 0.1, "dice": 0.05}
NO_ATTENTION = {name: None for name in HEALTHY if name.startswith("attention")}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "aligned"),
        (WRONG | {"attention_seg_overlap": 0.6, "seg_gt_overlap": 0.2}, "follows_wrong_attention"),
        (WRONG | {"attention_seg_overlap": 0.6, "seg_gt_overlap": 0.7}, "misaligned_attention"),
        (WRONG | {"attention_seg_overlap": 0.2, "seg_gt_overlap": 0.1}, "misaligned_attention"),
        ({"attention_gt_overlap": 0.1}, "found_without_attention"),
        ({"dice": 0.1}, "ignores_attention"),
        ({"n_predicted_pixels": 501, "dice": 0.33}, "over_predicted"),
        ({"n_predicted_pixels": 0, "dice": 0.0}, "empty_prediction"),
        ({"attention_min": 0.5, "attention_max": 0.54}, "collapsed_map"),
        ({"attention_std": 0.0019}, "collapsed_map"),
        (NO_ATTENTION, "found_lesion"),
        (NO_ATTENTION | {"dice": 0.1}, "missed_lesion"),
        ({"n_mask_pixels": 0, "dice": math.nan}, "false_positive"),
        ({"n_mask_pixels": 0, "n_predicted_pixels": 0, "dice": None}, "true_negative"),
    ],
)
def test_each_class(changes: dict[str, Any], code: str) -> None:
    row = HEALTHY | changes
    assert classify_case(row) == code
    as_text = {name: "" if value is None else str(value) for name, value in row.items()}
    assert classify_case(as_text) == code, "a CSV's cells are judged differently"


def test_what_is_not_known_is_not_wrong() -> None:
    assert classify_case({"case_id": "a", "n_mask_pixels": 9, "dice": 0.9}) == "found_lesion"
    assert not collapsed({})
    assert math.isnan(predicted_ratio({"n_mask_pixels": 0, "n_predicted_pixels": 3}))


@given(
    st.dictionaries(
        st.sampled_from(sorted(HEALTHY)), st.none() | st.just("") | st.floats(-1, 1e4) | st.just(0)
    )
)
def test_every_row_has_a_class(row: dict[str, Any]) -> None:
    assert classify_case(row) in CLASSES
