"""Lesions of one case: candidates in a probability map, matched with the lesions of a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attnseg.common.connectivity import EIGHT

"""Pixels that touch at a corner are of one lesion."""

MIN_SHARE = 0.1
"""The share of a candidate's pixels in a lesion from which the candidate is a hit."""

NOT_FOUND = -1.0
"""Score of a lesion that no candidate hits: below every probability."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Candidates:
    """The places of one image at which a model suspects a lesion, n of them.

    Attributes:
        score: (n,) highest probability in the candidate.
        peak: (n, 2) row and column of that pixel, the first of equals.
        n_pixels: (n,).
        overlap: (n, L) pixels shared with each lesion of the mask.
        at_threshold: (n,) whether it is a component of the segmentation itself.

    Example:
        >>> mask = np.zeros((8, 8), dtype=bool)
        >>> mask[2:4, 2:4] = True
        >>> find_candidates(mask.astype(np.float32), mask.astype(np.int32), 1, (0.5,)).score
        array([1.], dtype=float32)
    """

    score: Array
    peak: npt.NDArray[np.int64]
    n_pixels: npt.NDArray[np.int64]
    overlap: npt.NDArray[np.int64]
    at_threshold: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LesionMatch:
    """What became of the L lesions of a case, and of its n candidates.

    Attributes:
        n_pixels: (L,) area of each lesion.
        centre: (L, 2) row and column of its centre of mass.
        best_score: (L,) highest score of a candidate that hits the lesion, else `NOT_FOUND`.
        found: (L,) whether a component of the segmentation hits it.
        false_positive_scores: (F,) of the candidates that hit no lesion, descending.
        n_false_positives: how many components of the segmentation hit no lesion.
        candidates: all of them.
        hit: (n, L) which candidate hits which lesion.

    Example:
        >>> mask = np.zeros((8, 8), dtype=bool)
        >>> mask[2:4, 2:4] = True
        >>> match_lesions(mask.astype(np.float32), mask, (0.5,)).n_pixels
        array([4])
    """

    n_pixels: npt.NDArray[np.int64]
    centre: npt.NDArray[np.float64]
    best_score: Array
    found: npt.NDArray[np.bool_]
    false_positive_scores: Array
    n_false_positives: int
    candidates: Candidates
    hit: npt.NDArray[np.bool_]


def levels_below(threshold: float, n_halvings: int = 5) -> tuple[float, ...]:
    """The operating threshold and its halvings, descending: where candidates are looked for.

    Example:
        >>> levels_below(0.5, n_halvings=2)
        (0.5, 0.25, 0.125)
    """
    return tuple(threshold / 2**k for k in range(n_halvings + 1))


def find_candidates(
    probability: Array, lesions: npt.NDArray[np.int32], n_lesions: int, levels: tuple[float, ...]
) -> Candidates:
    """Find the candidates of one image.

    At the first level (the operating threshold) these are the 8-connected components of the
    pixels above it: the lesions that the segmentation reports. At every lower level, the
    components that hold no pixel above the level before: suspicions too weak to be segmented,
    which a curve over thresholds needs. So each candidate is outlined near its own height;
    one low threshold for all would melt neighbours into one, and the operating threshold
    alone would end the curve early.

    Args:
        probability: (H, W) in [0, 1].
        lesions: (H, W) labels of the mask's lesions, 1 to `n_lesions`, 0 elsewhere.
        n_lesions: how many.
        levels: descending thresholds, the operating threshold first.

    Example:
        >>> mask = np.zeros((8, 8), dtype=bool)
        >>> mask[2:4, 2:4] = True
        >>> probability, lesions = 0.3 * mask.astype(np.float32), mask.astype(np.int32)
        >>> found = find_candidates(probability, lesions, 1, (0.5, 0.2))
        >>> found.overlap, found.at_threshold
        (array([[4]]), array([False]))
    """
    before = np.float32(np.inf)
    found: list[tuple[npt.NDArray[Any], ...]] = []
    for level in np.asarray(levels, dtype=np.float32):
        labels, n = ndimage.label(probability > level, structure=EIGHT)
        inside = np.flatnonzero(labels)
        label, value = labels.ravel()[inside], probability.ravel()[inside]
        score = np.zeros(n + 1, dtype=np.float32)
        np.maximum.at(score, label, value)
        pair = label.astype(np.int64) * (n_lesions + 1) + lesions.ravel()[inside]
        shared = np.bincount(pair, minlength=(n + 1) * (n_lesions + 1))
        shared = shared.reshape(n + 1, n_lesions + 1)
        new = (score <= before) & (np.arange(n + 1) > 0)
        highest = np.flatnonzero(new[label])
        highest = highest[value[highest] == score[label[highest]]]
        peak = np.zeros(n + 1, dtype=np.int64)
        peak[label[highest[::-1]]] = inside[highest[::-1]]  # the first of equals is written last
        found.append((score[new], peak[new], shared.sum(1)[new], shared[new, 1:]))
        before = level
    score, peak, n_pixels, overlap = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Candidates(
        score=score,
        peak=np.stack(np.unravel_index(peak, probability.shape), 1),
        n_pixels=n_pixels,
        overlap=overlap,
        at_threshold=np.arange(len(score)) < len(found[0][0]),
    )


def match_lesions(
    probability: Array,
    mask: npt.NDArray[np.bool_],
    levels: tuple[float, ...],
    min_share: float = MIN_SHARE,
) -> LesionMatch:
    """Match the candidates of one image with the lesions (8-connected components) of its mask.

    A candidate hits a lesion where they share at least one pixel and at least `min_share` of
    the candidate's pixels: a small mark inside a large lesion is a hit, and a blob over half
    the lung is none, though it touches every lesion in it (overlap alone would give a network
    that is unsure everywhere full sensitivity at no false positive). A candidate can hit
    several lesions; one that hits none is a false positive; several in one lesion count once.

    Args:
        probability: (H, W) in [0, 1].
        mask: (H, W).
        levels: descending thresholds, the operating threshold first.
        min_share: in [0, 1]; 0 lets a single shared pixel suffice.

    Example:
        >>> mask = np.zeros((8, 8), dtype=bool)
        >>> mask[2:4, 2:4] = True
        >>> match = match_lesions(mask[::-1].astype(np.float32), mask, (0.5,))
        >>> match.found, match.n_false_positives
        (array([False]), 1)
    """
    lesions, n_lesions = ndimage.label(mask, structure=EIGHT)
    candidates = find_candidates(probability, lesions, n_lesions, levels)
    enough = np.maximum(1.0, min_share * candidates.n_pixels)[:, None]
    hit = candidates.overlap >= enough
    scores = np.where(hit, candidates.score[:, None], np.float32(NOT_FOUND))
    wrong = ~hit.any(1)
    places = np.nonzero(lesions)
    number = lesions[places] - 1
    n_pixels = np.bincount(number, minlength=n_lesions)
    sums = [np.bincount(number, weights=place, minlength=n_lesions) for place in places]
    return LesionMatch(
        n_pixels=n_pixels,
        centre=np.stack(sums, 1) / n_pixels[:, None],
        best_score=scores.max(0, initial=NOT_FOUND),
        found=(hit & candidates.at_threshold[:, None]).any(0),
        false_positive_scores=np.sort(candidates.score[wrong])[::-1],
        n_false_positives=int((wrong & candidates.at_threshold).sum()),
        candidates=candidates,
        hit=hit,
    )


def equivalent_diameter(
    n_pixels: npt.NDArray[np.int64], scale: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Diameter of the circle of the same area, in the unit of `scale` (2,): (L,) -> (L,).

    Example:
        >>> equivalent_diameter(np.array([314]), np.array([1.0, 1.0])).round(1)
        array([20.])
    """
    diameter: npt.NDArray[np.float64] = np.sqrt(4.0 / np.pi * n_pixels * scale.prod())
    return diameter
