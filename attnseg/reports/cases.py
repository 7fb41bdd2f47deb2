"""What went right or wrong in a single case, from its row of metrics alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attnseg.reports.style import as_float

Row = Mapping[str, Any]
"""Metric name -> value (a number, or the text of a CSV's cell; blank and absent: not known)."""

# Thresholds, each with its reason; the fates of whole data sets are judged in diagnosis.py.
COLLAPSED_RANGE = 0.05  # max - min of a map in [0, 1]: fused features then differ by under 5 %
COLLAPSED_STD = 0.002  # a single bright pixel at 512 x 512 has 1/512: below, nothing stands out
ATTENTION_HITS = 0.5  # attention_gt_overlap: most of the lesion is in the attention's top 10 %
FOUND_DICE = 0.2  # IoU 0.11: the usual bar (0.1) for a lesion that counts as found
FOLLOWS = 0.3  # attention_seg_overlap, three times chance: the two agree by more than anatomy
OVER_PREDICTION = 5.0  # predicted over true pixels: beyond, a nodule's diameter is off by 2.2

CLASSES = {
    "aligned": "attention and segmentation are on the lesion",
    "follows_wrong_attention": "segmentation follows attention that misses the lesion",
    "misaligned_attention": "attention misses the lesion, and so does segmentation",
    "found_without_attention": "segmentation finds what attention misses",
    "ignores_attention": "attention is on the lesion, segmentation is not",
    "over_predicted": "far more is predicted than the lesion",
    "empty_prediction": "there is a lesion, and nothing is predicted",
    "collapsed_map": "the attention map is flat",
    "missed_lesion": "no attention map; segmentation misses the lesion",
    "found_lesion": "no attention map; segmentation finds the lesion",
    "false_positive": "no lesion, but one is predicted",
    "true_negative": "no lesion, and none is predicted",
}
"""The code of every class of case -> what it means."""


def classify_case(row: Row) -> str:
    """The class of one case, a key of `CLASSES`; what is not known counts as not wrong."""
    value = values_of(row)
    if value("n_mask_pixels") == 0:
        return "false_positive" if value("n_predicted_pixels") > 0 else "true_negative"
    if value("n_predicted_pixels") == 0:
        return "empty_prediction"
    if collapsed(row):
        return "collapsed_map"
    found = value("dice") >= FOUND_DICE
    overlap, shared = value("attention_gt_overlap"), value("attention_seg_overlap")
    if overlap < ATTENTION_HITS and found:
        return "found_without_attention"
    if overlap < ATTENTION_HITS:
        follows = shared >= FOLLOWS and shared > value("seg_gt_overlap")
        return "follows_wrong_attention" if follows else "misaligned_attention"
    if over_predicted(row):
        return "over_predicted"
    if math.isnan(overlap):
        return "found_lesion" if found else "missed_lesion"
    return "aligned" if found else "ignores_attention"


def values_of(row: Row) -> Callable[[str], float]:
    """Look a number up by name; NaN, which is on no side of any threshold, where not known."""
    return lambda name: as_float(row.get(name))


def collapsed(row: Row) -> bool:
    """Whether the attention map (or the mean of maps, for a summary) is nearly flat."""
    value = values_of(row)
    narrow = value("attention_max") - value("attention_min") < COLLAPSED_RANGE
    return narrow or value("attention_std") < COLLAPSED_STD


def over_predicted(row: Row) -> bool:
    """Whether there is a lesion and far more than it is predicted."""
    return predicted_ratio(row) > OVER_PREDICTION


def predicted_ratio(row: Row) -> float:
    """Predicted over true pixels; NaN without a lesion."""
    value = values_of(row)
    truth = value("n_mask_pixels")
    return value("n_predicted_pixels") / truth if truth else math.nan


def positives(cases: Sequence[Row]) -> list[Row]:
    """The cases with a lesion."""
    return [row for row in cases if values_of(row)("n_mask_pixels") > 0]


def of_class(cases: Sequence[Row], code: str) -> list[Row]:
    """The cases that `classify_case` puts into one class."""
    return [row for row in cases if classify_case(row) == code]
