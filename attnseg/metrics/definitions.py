"""One line a metric: unit and meaning, for the files and pages that carry its number."""

from __future__ import annotations

import re

_POSITIVE = "mean over the cases with a non-empty mask"
_PX = "px at 512 x 512"

DEFINITIONS = {
    "n_cases": "cases evaluated",
    "n_positive": "cases with a non-empty mask",
    "n_empty": "cases with an empty mask: in none of the means over positives",
    "n_with_spacing": "positive cases with known mm per pixel: those that means in mm are over",
    "n_empty_predictions": "positive cases in which nothing is predicted at the threshold",
    "attention_gt_overlap": f"share of mask pixels in the attention's top 10 %; {_POSITIVE}",
    "seg_gt_overlap": f"share of mask pixels in the probability's top 10 %; {_POSITIVE}",
    "attention_seg_overlap": "share of the attention's top 10 % in the probability's top 10 %; "
    + _POSITIVE,
    "attention_gt_corr": f"Pearson over pixels, attention and mask; {_POSITIVE}",
    "seg_gt_corr": f"Pearson over pixels, probability and mask; {_POSITIVE}",
    "attention_seg_corr": f"Pearson over pixels, attention and probability; {_POSITIVE}",
    "attention_gt_distance": f"{_PX}: centre of mass of attention to that of mask; {_POSITIVE}",
    "seg_gt_distance": f"{_PX}: centre of mass of probability to that of mask; {_POSITIVE}",
    "pointing_game": f"1 where the attention's peak is in the mask; {_POSITIVE}",
    "pointing_game_distance": f"{_PX}: attention's peak to the nearest mask pixel; {_POSITIVE}",
    "energy_inside": f"share of the attention's sum inside the mask; {_POSITIVE}",
    "area_baseline": f"share of the image that is mask: energy_inside of uniform attention; "
    f"{_POSITIVE}",
    "soft_iou": f"sum(min(attention, mask)) / sum(max(attention, mask)); {_POSITIVE}",
    "nss": f"standard deviations: the attention's z-score in the mask; {_POSITIVE}",
    "attention_min": "lowest attention in the image; mean over all cases",
    "attention_max": "highest attention in the image; mean over all cases",
    "attention_std": "standard deviation of attention over pixels; mean over all cases",
    "threshold": "probability above which a pixel is predicted",
    "best_threshold": "the threshold with the highest dice_positive on these very cases",
    "dice_positive": f"Dice of the mask at the threshold; {_POSITIVE}",
    "dice_positive_at_best_threshold": f"Dice at best_threshold, an optimistic bound; {_POSITIVE}",
    "dice_without_false_lesions": "dice_positive if components that hit no lesion were gone",
    "dice_with_exact_outlines": "dice_positive if found lesions took the place of what hits them",
    "dice_with_all_found": "dice_positive if the lesions that are not found were there, with their "
    "true outlines",
    "dice_global": "Dice at the threshold of the pixels of all cases, pooled",
    "dice_original": "the original's figure: soft Dice of batches of two in order of case id",
    "iou_positive": f"intersection over union at the threshold; {_POSITIVE}",
    "false_positive_pixels_per_negative": "predicted pixels at the evaluated size; mean over the "
    "cases with an empty mask",
    "hd95": f"{_PX}: 95th percentile Hausdorff distance at the threshold, the image's diagonal "
    f"where nothing is predicted; {_POSITIVE}",
    "froc_mean": "mean of the seven froc_sensitivity_at_...",
    "n_lesions": "8-connected components of the masks",
    "lesion_sensitivity": "share of lesions that a predicted component hits at the threshold",
    "false_positive_lesions_per_negative": "predicted components at the threshold; mean over the "
    "cases with an empty mask",
}


def definition_of(name: str) -> str:
    """Unit and meaning of a metric by its name."""
    if name in DEFINITIONS:
        return DEFINITIONS[name]
    if name.startswith("froc_sensitivity_at_"):
        rate = name.removeprefix("froc_sensitivity_at_")
        return f"highest share of lesions hit at no more than {rate} false positives an image"
    if name.endswith("_mm") and (plain := name.removesuffix("_mm")) in DEFINITIONS:
        meaning = DEFINITIONS[plain].replace(_PX, "mm")
        return f"{meaning} and known spacing"
    sized = re.fullmatch(
        r"(n_lesions|lesion_sensitivity)_(below|above)?_?(\d+)(?:_to_(\d+))?(mm|px)", name
    )
    assert sized is not None, f"metric without a definition: {name}"
    measure, side, low, high, unit = sized.groups()
    size = f"{side} {low}" if side else f"{low} to {high}"
    of = "mm" if unit == "mm" else _PX
    return f"{DEFINITIONS[measure]}; lesions of an equivalent diameter {size} {of}"


def lower_is_better(name: str) -> bool:
    """Whether a metric or a loss, with or without its `val/`, is better where it is lower."""
    plain = name.rsplit("/", 1)[-1]
    falling = ("distance", "hd95", "false_positive", "n_empty_predictions")
    return "loss/" in name or any(word in plain for word in falling)
