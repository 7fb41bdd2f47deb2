"""Dice with one kind of error mended, against the same done to the maps themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from attnseg.metrics.lesions import EIGHT, MIN_SHARE, levels_below, match_lesions
from attnseg.metrics.mending import MENDED, mended_dice

Mask = np.ndarray[Any, np.dtype[np.bool_]]

SQUARES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=4
)


def canvas(squares: list[tuple[int, int, int]]) -> Mask:
    image = np.zeros((24, 24), dtype=bool)
    for row, column, side in squares:
        image[row : row + side, column : column + side] = True
    return image


def mended(predicted: Mask, mask: Mask) -> dict[str, float]:
    return mended_dice(match_lesions(np.float32(0.9) * predicted, mask, levels_below(0.5)))


def dice(predicted: Mask, mask: Mask) -> float:
    return float(2 * (predicted & mask).sum() / (predicted.sum() + mask.sum()))


def parts(image: Mask) -> list[Mask]:
    labels, n = ndimage.label(image, structure=EIGHT)
    return [labels == number for number in range(1, n + 1)]


def union(masks: list[Mask]) -> Mask:
    return np.any([np.zeros((24, 24), dtype=bool), *masks], axis=0)


@settings(max_examples=200, deadline=None)
@given(SQUARES, SQUARES)
def test_it_is_the_dice_of_the_mended_segmentation(
    marks: list[tuple[int, int, int]], lesions: list[tuple[int, int, int]]
) -> None:
    predicted, mask = canvas(marks), canvas(lesions)

    def hit(mark: Mask, lesion: Mask) -> bool:
        return bool((mark & lesion).sum() >= max(1.0, MIN_SHARE * mark.sum()))

    false = [c for c in parts(predicted) if not any(hit(c, lesion) for lesion in parts(mask))]
    found = [lesion for lesion in parts(mask) if any(hit(c, lesion) for c in parts(predicted))]
    missed = [lesion for lesion in parts(mask) if not any(hit(c, lesion) for c in parts(predicted))]
    expected = (predicted & ~union(false), union(false + found), union([predicted, *missed]))
    values = mended(predicted, mask)
    assert list(values.values()) == pytest.approx([dice(one, mask) for one in expected])
    assert values["dice_with_all_found"] >= dice(predicted, mask)


def test_each_kind_of_error_alone() -> None:
    two = canvas([(2, 2, 4), (14, 14, 4)])
    assert mended(canvas([(2, 2, 4)]), two) == pytest.approx(
        dict(zip(MENDED, (2 / 3, 2 / 3, 1.0), strict=True))
    )
    assert mended(canvas([(2, 2, 4), (14, 14, 4), (2, 14, 4)]), two) == pytest.approx(
        dict(zip(MENDED, (1.0, 0.8, 0.8), strict=True))
    )
    assert mended(canvas([(2, 2, 2), (14, 14, 2)]), two) == pytest.approx(
        dict(zip(MENDED, (0.4, 1.0, 0.4), strict=True))
    )


def test_no_lesion_no_dice() -> None:
    assert all(math.isnan(v) for v in mended(canvas([(2, 2, 4)]), canvas([])).values())


def test_nothing_segmented() -> None:
    values = mended(canvas([]), canvas([(2, 2, 4)]))
    assert list(values.values()) == [0.0, 0.0, 1.0]
