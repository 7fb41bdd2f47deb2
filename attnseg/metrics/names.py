"""What the metrics are called, known without torch: a mistyped name is told before its import.

The metric classes take their lists, rates and sizes from here; a test holds `validation_names`
against what a validation writes.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from attnseg.common.errors import ConfigError

COUNTS = ("n_cases", "n_positive", "n_empty", "n_with_spacing")
"""Of cases."""

OF_SEGMENTATION = ("seg_gt_overlap", "seg_gt_corr", "seg_gt_distance", "seg_gt_distance_mm")
"""Averaged over the cases with a non-empty mask, and defined without attention too."""

OF_ATTENTION = (
    "attention_gt_overlap",
    "attention_seg_overlap",
    "attention_gt_corr",
    "attention_seg_corr",
    "attention_gt_distance",
    "attention_gt_distance_mm",
    "pointing_game",
    "pointing_game_distance",
    "pointing_game_distance_mm",
    "energy_inside",
    "soft_iou",
    "nss",
)
"""Averaged over the cases with a non-empty mask."""

OF_EVERY_CASE = ("attention_min", "attention_max", "attention_std")
"""Averaged over all cases: a collapsed map is a finding where there is no nodule too."""

NEEDS_ATTENTION = (*OF_ATTENTION, *OF_EVERY_CASE)

AT_THRESHOLDS = (
    "threshold",
    "best_threshold",
    "dice_positive",
    "dice_positive_at_best_threshold",
    "dice_global",
    "iou_positive",
    "false_positive_pixels_per_negative",
)

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image of the curve (LUNA16: Setio 2017, 10.1016/j.media.2017.06.015)."""

FROC = tuple(f"froc_sensitivity_at_{rate:g}" for rate in RATES)
"""Of each rate."""

MENDED = ("dice_without_false_lesions", "dice_with_exact_outlines", "dice_with_all_found")
"""Of evaluations alone: Dice with one kind of error mended, over the cases with a lesion."""

SIZE_BINS = {"mm": (10.0, 20.0), "px": (16.0, 32.0)}
"""Limits of small, medium and large equivalent diameters: in mm, and in pixels at 512 x 512."""

SIZES = {
    unit: (f"_below_{low:g}{unit}", f"_{low:g}_to_{high:g}{unit}", f"_above_{high:g}{unit}")
    for unit, (low, high) in SIZE_BINS.items()
}
"""What the names of a count and a sensitivity by size end with: small, medium, large."""


def validation_names(*, has_attention: bool) -> list[str]:
    """Of every metric that the validation of an epoch gives, without the `val/`."""
    of_size = ["", *(end for ends in SIZES.values() for end in ends)]
    return [
        *COUNTS,
        *OF_SEGMENTATION,
        "area_baseline",
        *(NEEDS_ATTENTION if has_attention else ()),
        *AT_THRESHOLDS,
        "dice_original",
        *FROC,
        "froc_mean",
        "false_positive_lesions_per_negative",
        *(f"{name}{end}" for name in ("n_lesions", "lesion_sensitivity") for end in of_size),
    ]


def refuse_unknown(monitors: Sequence[tuple[str, str]], *, has_attention: bool) -> None:
    """Refuse a name that no validation gives; losses are known only after an epoch.

    Args:
        monitors: key of the configuration and its value, as in `val/dice_positive`.
        has_attention: whether the model has a map to measure.

    Raises:
        ConfigError: one of them is no metric.
    """
    known = [f"val/{name}" for name in validation_names(has_attention=has_attention)]
    for key, name in monitors:
        if name not in known and not name.startswith(("val/loss/", "train/")):
            raise no_such_metric(key, name, known)


def no_such_metric(key: str, name: str, known: Sequence[str]) -> ConfigError:
    """The error that names a mistyped metric and what may have been meant."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {sorted(known)}"
    return ConfigError(f"{key}={name}: no such metric; {hint}")
