"""Lesion-wise detection: FROC, sensitivity by size, false-positive lesions."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attnseg.component import Doc, Measure
from attnseg.metrics.base import NEUTRAL_THRESHOLD, MeanOverCases, check_maps
from attnseg.metrics.lesions import (
    MIN_SHARE,
    LesionMatch,
    equivalent_diameter,
    levels_below,
    match_lesions,
)
from attnseg.metrics.maps import REFERENCE_SIZE
from attnseg.metrics.mending import MENDED, mended_dice

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image of the curve (LUNA16: Setio 2017, 10.1016/j.media.2017.06.015)."""

SIZE_BINS = {"mm": (10.0, 20.0), "px": (16.0, 32.0)}
"""Limits of small, medium and large equivalent diameters: in mm, and in pixels at 512 x 512."""

SIZES = {
    "": "",
    "_below_16px": "; lesions of an equivalent diameter below 16 px at 512 x 512",
    "_16_to_32px": "; lesions of an equivalent diameter 16 to 32 px at 512 x 512",
    "_above_32px": "; lesions of an equivalent diameter above 32 px at 512 x 512",
    "_below_10mm": "; lesions of an equivalent diameter below 10 mm",
    "_10_to_20mm": "; lesions of an equivalent diameter 10 to 20 mm",
    "_above_20mm": "; lesions of an equivalent diameter above 20 mm",
}
"""What the names of a count and a sensitivity by size end with, and what that means."""

MAX_FALSE_POSITIVES = 100
"""False positives that a case keeps, the highest: bounds memory; the curve ends at 8 an image."""


def froc_sensitivity(
    best_scores: npt.NDArray[np.float32],
    false_positive_scores: npt.NDArray[np.float32],
    n_images: int,
    rates: tuple[float, ...] = RATES,
) -> list[float]:
    """Sensitivity at given false positives per image.

    The highest sensitivity of a threshold that lets at most `rate` false positives an image
    through. It is a step function: no interpolation between operating points, so each number
    is one that a threshold reaches; a lesion that ties with a false positive comes after it.

    Args:
        best_scores: (L,) score at which each lesion is found, negative if never.
        false_positive_scores: (F,) scores of the false positives of all images.
        n_images: images, with and without lesions.
        rates: false positives per image.

    Returns:
        A sensitivity for each rate, NaN without lesions.

    Example:
        >>> best, wrong = np.float32([0.9, 0.4]), np.float32([0.6])
        >>> froc_sensitivity(best, wrong, n_images=2, rates=(0.25, 0.5))
        [0.5, 1.0]
    """
    if not len(best_scores):
        return [float("nan")] * len(rates)
    descending = np.sort(false_positive_scores)[::-1]
    sensitivities = []
    for rate in rates:
        allowed = int(np.floor(rate * n_images + 1e-9))
        # The first false positive too many; a score must beat it.
        bar = descending[allowed] if allowed < len(descending) else 0.0
        sensitivities.append(float((best_scores > bar).mean()))
    return sensitivities


class LesionMetrics(MeanOverCases):
    """FROC over all cases, and lesions found and invented at the operating threshold.

    - `froc_sensitivity_at_0.125` ... `froc_sensitivity_at_8`, and `froc_mean` of the seven.
    - `n_lesions`; `lesion_sensitivity`: the share that the segmentation at the threshold finds;
      the same by equivalent diameter: `..._below_10mm`, `..._10_to_20mm`, `..._above_20mm`
      (lesions of known spacing) and below 16, 16 to 32 and above 32 px at 512 x 512 (all).
    - `false_positive_lesions_per_negative`: components of the segmentation at the threshold in
      a case with an empty mask, on average.
    - Where they are asked for, what `mended_dice` gives, means over the cases with a lesion.

    `attnseg.metrics.lesions` says what a candidate is and when it hits. `last` holds `n_lesions`,
    `n_lesions_found` and `n_false_positive_lesions` at the threshold; `last_matches` what they were
    counted from.

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1.0
        >>> metric = LesionMetrics()
        >>> metric.update(mask, mask, torch.ones(1, 2))
        >>> metric.compute()["lesion_sensitivity"]
        1.0
    """

    name = "lesions"
    measures = {
        "froc_sensitivity_at_{}": Measure(
            "highest share of lesions hit at no more than {} false positives an image",
            True,
            each=RATES,
        ),
        "froc_mean": Measure("mean of the seven froc_sensitivity_at_...", True),
        "false_positive_lesions_per_negative": Measure(
            "predicted components at the threshold; mean over the cases with an empty mask", False
        ),
        "n_lesions{}": Measure("8-connected components of the masks{}", each=SIZES),
        "lesion_sensitivity{}": Measure(
            "share of lesions that a predicted component hits at the threshold{}", True, each=SIZES
        ),
        "dice_without_false_lesions": Measure(
            "dice_positive if components that hit no lesion were gone", True, evaluation=True
        ),
        "dice_with_exact_outlines": Measure(
            "dice_positive if found lesions took the place of what hits them", True, evaluation=True
        ),
        "dice_with_all_found": Measure(
            "dice_positive if the lesions that are not found were there, with their true outlines",
            True,
            evaluation=True,
        ),
    }
    lesions: list[Tensor]
    false_positives: list[Tensor]
    n_images: Tensor
    n_negatives: Tensor
    n_on_negatives: Tensor
    last_matches: list[LesionMatch]

    def __init__(
        self,
        threshold: Annotated[
            float | None, Doc("candidates are looked for at it and at its halvings; null: 0.5")
        ] = None,
        min_share: Annotated[
            float, Doc("of a candidate in a lesion, from which it hits the lesion")
        ] = MIN_SHARE,
        *,
        evaluation: Annotated[bool, Doc("add mended_dice, to `last` as well")] = False,
    ) -> None:
        super().__init__(MENDED if evaluation else ())
        self.levels = levels_below(NEUTRAL_THRESHOLD if threshold is None else threshold)
        self.min_share = min_share
        self.last_matches = []
        # best score, found at the threshold, diameter in px at 512 x 512, diameter in mm
        self.add_rows("lesions", 4, torch.float32)
        self.add_rows("false_positives", 1, torch.float32)
        for name in ("n_images", "n_negatives", "n_on_negatives"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probability: Tensor, mask: Tensor, spacing: Tensor) -> None:
        """Add a batch: maps (B, 1, H, W), `spacing` (B, 2) mm per pixel or NaN."""
        check_maps(probability, mask)
        maps = probability.detach().float()[:, 0].cpu().numpy()
        truth = (mask > 0.5)[:, 0].cpu().numpy()
        matches = [
            match_lesions(one, true, self.levels, self.min_share)
            for one, true in zip(maps, truth, strict=True)
        ]
        in_pixels = np.array([REFERENCE_SIZE / size for size in truth.shape[1:]])
        for match, in_mm in zip(matches, spacing.double().cpu().numpy(), strict=True):
            self._add(match, in_pixels, in_mm)
        negative = ~truth.any((1, 2))
        self.n_images += len(matches)
        self.n_negatives += int(negative.sum())
        self.last_matches = matches
        invented = [match.n_false_positives for match in matches]
        self.n_on_negatives += int(np.array(invented)[negative].sum())
        self.last = {
            "n_lesions": torch.tensor([len(match.found) for match in matches]),
            "n_lesions_found": torch.tensor([int(match.found.sum()) for match in matches]),
            "n_false_positive_lesions": torch.tensor(invented),
        }
        if self.names:
            dice = [mended_dice(match) for match in matches]
            mended = {
                name: torch.tensor([one[name] for one in dice], dtype=torch.float64)
                for name in self.names
            }
            self.add(mended, dict.fromkeys(self.names, torch.from_numpy(~negative)))
            self.last |= mended

    def _add(
        self,
        match: LesionMatch,
        in_pixels: npt.NDArray[np.float64],
        in_mm: npt.NDArray[np.float64],
    ) -> None:
        diameters = [equivalent_diameter(match.n_pixels, scale) for scale in (in_pixels, in_mm)]
        rows = np.stack([match.best_score, match.found, *diameters], 1).astype(np.float32)
        wrong = match.false_positive_scores[:MAX_FALSE_POSITIVES, None].copy()
        self.append_rows("lesions", torch.from_numpy(rows).to(self.device))
        self.append_rows("false_positives", torch.from_numpy(wrong).to(self.device))

    def compute(self) -> dict[str, float]:
        """All of the above; NaN where there is no lesion (of that size) or no negative case."""
        lesions = self.rows("lesions").cpu().numpy()
        wrong = self.rows("false_positives").cpu().numpy()[:, 0]
        curve = froc_sensitivity(lesions[:, 0], wrong, int(self.n_images))
        n_negatives = int(self.n_negatives)
        per_negative = int(self.n_on_negatives) / n_negatives if n_negatives else float("nan")
        return {
            **{
                f"froc_sensitivity_at_{rate:g}": value
                for rate, value in zip(RATES, curve, strict=True)
            },
            "froc_mean": sum(curve) / len(curve),
            "false_positive_lesions_per_negative": per_negative,
            **_sensitivity_by_size(lesions),
            **self.means(),
        }


def _sensitivity_by_size(lesions: npt.NDArray[np.float32]) -> dict[str, float]:
    """Share found at the threshold, of all lesions and by size, with the counts."""
    found = lesions[:, 1] > 0
    chosen = {"": np.ones(len(lesions), dtype=bool)}
    for column, unit in ((2, "px"), (3, "mm")):
        (small, large), size = SIZE_BINS[unit], lesions[:, column]
        chosen |= {
            f"_below_{small:g}{unit}": size < small,
            f"_{small:g}_to_{large:g}{unit}": (size >= small) & (size <= large),
            f"_above_{large:g}{unit}": size > large,
        }
    values: dict[str, float] = {}
    for name, which in chosen.items():
        values[f"n_lesions{name}"] = int(which.sum())
        values[f"lesion_sensitivity{name}"] = (
            float(found[which].mean()) if which.any() else float("nan")
        )
    return values
