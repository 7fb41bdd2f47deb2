"""What is a candidate, when it hits, and how the FROC curve is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.metrics.froc import MAX_FALSE_POSITIVES, RATES, LesionMetrics, froc_sensitivity
from attnseg.metrics.lesions import levels_below, match_lesions

LEVELS = levels_below(0.5)


def canvas(*squares: tuple[int, int, int, float]) -> np.ndarray:
    """Squares (row, column, side, value) on a 32 x 32 map."""
    image = np.zeros((32, 32), dtype=np.float32)
    for row, column, side, value in squares:
        image[row : row + side, column : column + side] = value
    return image


def match(probability: np.ndarray, mask: np.ndarray, share: float = 0.1):  # type: ignore[no-untyped-def]
    return match_lesions(probability, mask > 0, LEVELS, share)


def test_levels_are_the_threshold_and_its_halvings() -> None:
    assert LEVELS == (0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625)


def test_a_hit_and_a_false_alarm() -> None:
    result = match(canvas((4, 4, 4, 0.9), (20, 20, 3, 0.7)), canvas((5, 5, 4, 1)))
    assert result.found.tolist() == [True]
    assert result.best_score.tolist() == pytest.approx([0.9])
    assert result.false_positive_scores.tolist() == pytest.approx([0.7])
    assert result.n_false_positives == 1
    assert result.n_pixels.tolist() == [16]


def test_pixels_that_touch_at_a_corner_are_one_lesion_and_one_candidate() -> None:
    diagonal = canvas((4, 4, 2, 0.9), (6, 6, 2, 0.8))
    assert len(match(diagonal, diagonal).found) == 1
    assert match(diagonal, canvas()).false_positive_scores.tolist() == pytest.approx([0.9])


def test_a_weak_suspicion_is_a_candidate_but_no_segmentation() -> None:
    result = match(canvas((4, 4, 4, 0.2), (20, 20, 3, 0.1)), canvas((4, 4, 4, 1)))
    assert result.best_score.tolist() == pytest.approx([0.2])
    assert result.found.tolist() == [False]
    assert result.false_positive_scores.tolist() == pytest.approx([0.1])
    assert result.n_false_positives == 0


def test_neighbours_joined_at_a_lower_level_stay_two() -> None:
    probability = canvas((4, 4, 10, 0.3), (4, 4, 3, 0.9), (11, 11, 3, 0.8))
    result = match(probability, canvas((4, 4, 3, 1), (11, 11, 3, 1)))
    assert sorted(result.best_score.tolist()) == pytest.approx([0.8, 0.9])
    assert len(result.false_positive_scores) == 0  # nor is what joins them a third


def test_below_the_lowest_level_nothing_is_suspected() -> None:
    result = match(canvas((4, 4, 3, 0.01)), canvas((4, 4, 3, 1)))
    assert result.best_score.tolist() == [-1.0]


@pytest.mark.parametrize(("share", "found"), [(0.1, False), (0.0, True)])
def test_a_blob_over_everything_is_no_hit(share: float, found: bool) -> None:
    everywhere = np.full((32, 32), 0.6, dtype=np.float32)
    result = match(everywhere, canvas((4, 4, 3, 1)), share)
    assert result.found.tolist() == [found]
    assert len(result.false_positive_scores) == (0 if found else 1)


def test_a_small_mark_in_a_large_lesion_is_a_hit() -> None:
    assert match(canvas((10, 10, 1, 0.9)), canvas((4, 4, 20, 1))).found.tolist() == [True]


def test_several_marks_in_one_lesion_count_once_and_none_is_false() -> None:
    result = match(canvas((5, 5, 2, 0.6), (9, 9, 2, 0.9)), canvas((4, 4, 10, 1)))
    assert result.best_score.tolist() == pytest.approx([0.9])
    assert len(result.false_positive_scores) == 0


def test_one_mark_can_hit_two_lesions() -> None:
    result = match(canvas((4, 4, 8, 0.9)), canvas((4, 4, 3, 1), (9, 9, 3, 1)))
    assert result.found.tolist() == [True, True]


def test_places_are_told() -> None:
    """A lesion's is its centre, a candidate's its highest pixel, the first of equals."""
    probability = canvas((4, 4, 4, 0.9), (20, 18, 3, 0.2), (26, 26, 2, 0.1))
    probability[22, 19] = 0.3
    result = match(probability, canvas((5, 5, 5, 1), (20, 18, 4, 1)))
    assert result.centre.tolist() == [[7.0, 7.0], [21.5, 19.5]]
    assert result.candidates.peak.tolist() == [[4, 4], [22, 19], [26, 26]]
    assert result.hit.tolist() == [[True, False], [False, True], [False, False]]
    nothing = match(canvas(), canvas())
    assert (nothing.centre.shape, nothing.candidates.peak.shape) == ((0, 2), (0, 2))


# --- the curve --------------------------------------------------------------------------------


def test_the_curve_is_read_as_a_step() -> None:
    best = np.array([0.95, 0.8, 0.5, -1.0], dtype=np.float32)
    wrong = np.array([0.9, 0.7, 0.6, 0.4], dtype=np.float32)
    got = froc_sensitivity(best, wrong, n_images=4, rates=(0.2, 0.25, 0.5, 0.75, 1.0))
    assert got == [0.25, 0.5, 0.5, 0.75, 0.75]


def test_a_lesion_that_ties_with_a_false_positive_comes_after_it() -> None:
    best, wrong = np.array([1.0], dtype=np.float32), np.array([1.0], dtype=np.float32)
    assert froc_sensitivity(best, wrong, n_images=4, rates=(0.125, 0.25)) == [0.0, 1.0]


def test_without_lesions_sensitivity_is_undefined() -> None:
    empty = np.array([], dtype=np.float32)
    assert np.isnan(froc_sensitivity(empty, empty, 3)).all()


@settings(max_examples=80, deadline=None)
@given(
    best=st.lists(st.sampled_from([-1.0, 0.1, 0.2, 0.3, 0.4, 0.5]), min_size=1, max_size=8),
    wrong=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), max_size=30),
    n_images=st.integers(1, 5),
)
def test_the_curve_rises_and_no_threshold_beats_it(
    best: list[float], wrong: list[float], n_images: int
) -> None:
    scores, false = np.array(best, np.float32), np.array(wrong, np.float32)
    curve = froc_sensitivity(scores, false, n_images)
    assert curve == sorted(curve)
    for rate, got in zip(RATES, curve, strict=True):
        bars = (0.0, *false, *scores[scores > 0])
        allowed = [b for b in bars if (false > b).sum() <= rate * n_images]
        reached = [((scores > b) & (scores > 0)).mean() for b in allowed]
        assert got == pytest.approx(max(reached, default=0.0))


# --- the metric -------------------------------------------------------------------------------


def batch(*pairs: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    stacked = (np.stack(maps)[:, None] for maps in zip(*pairs, strict=True))
    probability, mask = (torch.from_numpy(maps) for maps in stacked)
    return probability, mask


def test_sensitivity_by_size_in_both_units() -> None:
    mask = canvas((2, 2, 1, 1), (10, 10, 3, 1))  # diameters 1.13 and 3.39 pixels of 16 px
    metric = LesionMetrics()
    unknown = torch.full((1, 2), torch.nan)
    metric.update(*batch((canvas((10, 10, 3, 0.9)), mask)), torch.full((1, 2), 5.0))
    metric.update(*batch((canvas((2, 2, 1, 0.9)), mask)), unknown)
    values = metric.compute()
    assert values["n_lesions"] == 4
    assert values["lesion_sensitivity"] == 0.5
    assert values["n_lesions_16_to_32px"] == values["n_lesions_above_32px"] == 2
    assert values["lesion_sensitivity_above_32px"] == 0.5
    assert (values["n_lesions_below_10mm"], values["n_lesions_10_to_20mm"]) == (1, 1)
    assert values["lesion_sensitivity_below_10mm"] == 0.0
    assert values["lesion_sensitivity_10_to_20mm"] == 1.0
    assert np.isnan(values["lesion_sensitivity_above_20mm"])


def test_false_positives_per_image_are_over_all_cases() -> None:
    hit, alarm = canvas((4, 4, 3, 0.6)), canvas((20, 20, 3, 0.9))
    metric = LesionMetrics()
    positive = (np.maximum(hit, alarm), canvas((4, 4, 3, 1)))
    metric.update(*batch(positive, (canvas(), canvas())), torch.ones(2, 2))
    # One false positive on two images, above the lesion: found at 0.5 an image, not below.
    values = metric.compute()
    assert [values[f"froc_sensitivity_at_{r:g}"] for r in RATES] == [0, 0, 1, 1, 1, 1, 1]
    assert values["froc_mean"] == pytest.approx(5 / 7)
    assert values["false_positive_lesions_per_negative"] == 0.0


def test_false_positive_lesions_are_counted_at_the_threshold_on_negatives() -> None:
    probability = canvas((4, 4, 3, 0.9), (12, 12, 3, 0.6), (20, 20, 3, 0.3))
    for threshold, wanted in ((0.5, 2.0), (0.2, 3.0), (0.7, 1.0)):
        metric = LesionMetrics(threshold)
        positive = (probability, canvas((4, 4, 3, 1)))
        metric.update(*batch(positive, (probability, canvas())), torch.ones(2, 2))
        assert metric.compute()["false_positive_lesions_per_negative"] == wanted
        assert metric.last["n_false_positive_lesions"].tolist() == [wanted - 1, wanted]


def test_a_case_keeps_its_highest_false_positives_only() -> None:
    rng = np.random.default_rng(0)
    probability = np.zeros((64, 64), dtype=np.float32)
    probability[::2, ::2] = rng.uniform(0.5, 1, (32, 32))
    metric = LesionMetrics()
    empty = np.zeros_like(probability)
    metric.update(*batch((probability, empty)), torch.ones(1, 2))
    kept = metric.rows("false_positives")[:, 0].numpy()
    np.testing.assert_array_equal(kept, np.sort(probability.ravel())[::-1][:MAX_FALSE_POSITIVES])
    assert metric.compute()["false_positive_lesions_per_negative"] == 1024
