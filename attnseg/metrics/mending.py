"""What Dice would be if one kind of error were mended, the others left as they are.

TIDE (Bolya et al. 2020, arXiv:2008.08115) asks this of the average precision of object detectors;
here it is asked of the Dice of a case.
"""

from __future__ import annotations

import math

from attnseg.metrics.lesions import LesionMatch

MENDED = ("dice_without_false_lesions", "dice_with_exact_outlines", "dice_with_all_found")
"""Dice with one kind of error mended, over the cases with a lesion."""


def mended_dice(match: LesionMatch) -> dict[str, float]:
    """Dice of a case at the threshold, mended in one of three ways each; NaN for an empty mask.

    - `dice_without_false_lesions`: the components of the segmentation that hit no lesion
      (`match_lesions` says when one does) are gone.
    - `dice_with_exact_outlines`: each found lesion has its true outline, and the components that
      hit it are gone.
    - `dice_with_all_found`: the lesions that are not found are there, with their true outlines.

    Example:
        >>> from attnseg.metrics.lesions import match_lesions
        >>> mask = np.array([[1, 0, 0]], dtype=bool)
        >>> match = match_lesions(np.float32([[1, 0, 1]]), mask, (0.5,))
        >>> mended_dice(match)["dice_without_false_lesions"]
        1.0
    """
    lesions = match.n_pixels
    if not len(lesions):
        return dict.fromkeys(MENDED, math.nan)
    segmented = match.candidates.at_threshold
    sizes, shared = match.candidates.n_pixels[segmented], match.candidates.overlap[segmented]
    hits, found = match.hit[segmented].any(1), match.found
    false = shared[~hits].sum(0)  # of each lesion, what components that hit none hold
    covered = shared.sum(0)
    exact_pixels = sizes[~hits].sum() + lesions[found].sum() - false[found].sum()
    added = (lesions - covered)[~found].sum()
    of_all = lesions.sum()
    dice = (
        2 * shared[hits].sum() / (sizes[hits].sum() + of_all),
        2 * (lesions[found].sum() + false[~found].sum()) / (exact_pixels + of_all),
        2 * (covered.sum() + added) / (sizes.sum() + added + of_all),
    )
    return dict(zip(MENDED, map(float, dice), strict=True))
