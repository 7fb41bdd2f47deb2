"""A summary and cases for every disease; none for a healthy model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from attnseg.metrics.alignment import alignment_per_case
from attnseg.metrics.mending import MENDED
from attnseg.reports.diagnosis import ENERGY_GAIN, LOW_NSS, Finding, diagnose

from .fakes import case_rows, negative_rows, summary_of

ELSEWHERE = {
    "attention_gt_overlap": 0.15,
    "attention_gt_distance": 111.0,
    "pointing_game_distance": 130.0,
}
FOLLOWING = ELSEWHERE | {"attention_seg_overlap": 0.6, "seg_gt_overlap": 0.2, "dice": 0.05}
FLAT = {"attention_min": 0.5, "attention_max": 0.5, "attention_std": 0.0}


def examine(rows: list[dict[str, Any]], **more: float) -> tuple[dict[str, Finding], dict[str, Any]]:
    summary = summary_of(rows, **more)
    return {finding.code: finding for finding in diagnose(summary, rows)}, summary


def test_healthy_model_is_only_aligned() -> None:
    found, _ = examine(case_rows(20) + negative_rows(4, 0))
    assert list(found) == ["aligned"]
    assert found["aligned"].severity == "good"


@pytest.mark.parametrize(
    ("changes", "code", "also"),
    [
        (FLAT, "collapsed_map", set()),
        ({"energy_inside": 0.005, "nss": 0.4}, "attention_at_chance", set()),
        ({"nss": 0.4}, "attention_at_chance", set()),
        (ELSEWHERE, "misaligned_attention", set()),
        ({"attention_gt_distance": 80.0}, "misaligned_attention", set()),
        ({"pointing_game_distance": 80.0}, "misaligned_attention", set()),
        (FOLLOWING, "follows_wrong_attention", {"misaligned_attention"}),
        ({"attention_seg_corr": 0.05}, "attention_and_segmentation_disagree", set()),
        ({"dice": 0.1}, "ignores_attention", set()),
        ({"n_predicted_pixels": 0.0, "dice": 0.0}, "empty_prediction", set()),
        ({"n_predicted_pixels": 4000.0}, "over_predicted", set()),
    ],
)
def test_each_disease_is_named_alone(changes: dict[str, float], code: str, also: set[str]) -> None:
    found, _ = examine(case_rows(20, **changes))
    assert set(found) == {code} | also
    finding = found[code]
    assert finding.severity in ("critical", "warning")
    assert finding.numbers
    assert all(math.isfinite(value) for value in finding.numbers.values())
    assert finding.cases
    assert finding.advice
    assert "nan" not in finding.explanation


def test_chance_is_told_by_what_was_measured() -> None:
    found = examine(case_rows(20, energy_inside=0.006, nss=0.4))[0]["attention_at_chance"]
    gain = found.numbers["energy_inside"] / found.numbers["area_baseline"]
    assert found.numbers["energy_gain"] == pytest.approx(gain) == pytest.approx(1.5, abs=0.1)
    assert "lungs" not in found.explanation  # no such map was scored


def test_half_of_the_image_gives_what_is_wanted_at_least() -> None:
    """The thresholds are what an even map of the lesion's half scores."""
    attention, mask = torch.zeros(2, 1, 1, 64, 64)
    attention[..., :32] = 1.0
    mask[..., 20:24, 5:9] = 1.0
    found = alignment_per_case(attention, attention, mask, torch.ones(1, 2))
    assert float(found["energy_inside"] / found["area_baseline"]) == pytest.approx(ENERGY_GAIN)
    assert float(found["nss"]) == pytest.approx(LOW_NSS)


def test_the_numbers_are_in_the_words() -> None:
    rows = case_rows(20, **ELSEWHERE)
    finding = examine(rows)[0]["misaligned_attention"]
    distance = sum(row["attention_gt_distance"] for row in rows) / len(rows)
    assert f"{distance:.0f} px" in finding.explanation
    assert finding.numbers["attention_gt_distance"] == pytest.approx(distance)
    assert finding.severity == "critical", "an overlap near chance is critical"


def test_top_right_but_centre_of_mass_off_is_a_warning() -> None:
    diffuse = examine(case_rows(20, attention_gt_distance=80.0))[0]["misaligned_attention"]
    title = "Attention's centre of mass is off the lesion"
    assert (diffuse.title, diffuse.severity) == (title, "warning")
    peak = examine(case_rows(20, pointing_game_distance=80.0))[0]["misaligned_attention"]
    assert peak.title == "Attention's peak is off the lesion"


def test_one_map_for_every_image() -> None:
    rows = case_rows(20)
    for row in rows:
        row |= {"attention_max": 0.9, "attention_std": 0.06}
    assert "same_map_everywhere" in examine(rows)[0]
    rows[0]["attention_std"] = 0.061
    assert "same_map_everywhere" not in examine(rows)[0]


def test_false_positives_on_negatives_name_the_largest() -> None:
    negatives = negative_rows(6, 40)
    negatives[3]["n_predicted_pixels"] = 900
    negatives[5]["n_predicted_pixels"] = 0
    counts = {"false_positive_lesions_per_negative": 2.5}
    counts["false_positive_pixels_per_negative"] = 177.0
    found, _ = examine(case_rows(20) + negatives, **counts)
    finding = found["false_positives_on_negatives"]
    assert finding.cases[0] == "neg-003"
    assert "5 of 6" in finding.explanation
    assert "aligned" not in found


def test_a_fault_of_few_cases_is_not_the_models() -> None:
    rows = case_rows(27) + case_rows(3, seed=1, **FOLLOWING)
    assert list(examine(rows)[0]) == ["aligned"]
    rows = case_rows(20) + case_rows(8, seed=1, **FOLLOWING)
    finding = examine(rows)[0]["follows_wrong_attention"]
    assert "In 8 of 28" in finding.explanation
    assert finding.numbers["share_of_positives"] == pytest.approx(8 / 28)


def test_maps_that_correlate_agree_though_their_top_tenths_are_mostly_background() -> None:
    found = examine(case_rows(28, attention_seg_corr=0.85, attention_seg_overlap=0.11))[0]
    assert "attention_and_segmentation_disagree" not in found


@pytest.mark.parametrize(
    ("mended", "title", "advice"),
    [
        ((0.8, 0.5, 0.6), "The most Dice is lost to false lesions", "threshold="),
        ((0.4, 0.6, 0.5), "The most Dice is lost to inexact outlines", "boundary"),
        ((0.4, 0.5, 0.9), "The most Dice is lost to lesions that are not found", "gt_lesions"),
    ],
)
def test_what_the_dice_is_lost_to(
    mended: tuple[float, float, float], title: str, advice: str
) -> None:
    rows, summary = case_rows(20), dict(zip(MENDED, mended, strict=True))
    finding = examine(rows, dice_positive=0.4, **summary)[0]["dice_lost"]
    assert finding.title == title
    assert all(f"{value:.2g}" in finding.explanation for value in (0.4, *mended))
    assert advice in finding.advice
    assert "dice_lost" not in examine(rows, dice_positive=0.88, **summary)[0]
    assert "dice_lost" not in examine(rows)[0]


def test_worst_cases_come_first_and_are_few() -> None:
    rows = case_rows(20, attention_seg_corr=0.1)
    rows[7]["attention_seg_corr"] = -0.4
    finding = examine(rows)[0]["attention_and_segmentation_disagree"]
    assert finding.cases[0] == "case-007"
    assert len(finding.cases) == 5


def test_critical_before_warning() -> None:
    rows = case_rows(20, attention_seg_corr=0.1, n_predicted_pixels=0.0, dice=0.0)
    severities = [finding.severity for finding in diagnose(summary_of(rows), rows)]
    assert severities == sorted(severities, key=["critical", "warning", "good", "info"].index)
    assert set(severities) == {"critical", "warning"}


def test_model_without_attention_is_not_blamed_for_it() -> None:
    rows = [
        {name: value for name, value in row.items() if not name.startswith("attention")}
        for row in case_rows(20)
    ]
    for row in rows:
        for name in ("nss", "energy_inside", "pointing_game_distance"):
            row[name] = math.nan
    found, _ = examine(rows)
    assert list(found) == ["no_attention"]


def test_few_cases_are_said_so_beside_the_rest() -> None:
    assert set(examine(case_rows(4))[0]) == {"aligned", "few_cases"}


def test_nothing_measured_finds_nothing_wrong() -> None:
    codes = {finding.code for finding in diagnose({}, [])}
    assert codes == {"no_attention", "few_cases"}


def against_training(
    known: float, held_out: float, count: int = 20, spread: float = 0.05
) -> Finding | None:
    """The finding on two groups of cases whose Dice varies by `spread` to either side."""
    groups = []
    for dice in (known, held_out):
        rows = case_rows(count)
        for index, row in enumerate(rows):
            row["dice"] = dice + (spread if index % 2 else -spread)
        groups.append(rows)
    training, cases = groups
    codes = {finding.code: finding for finding in diagnose(summary_of(cases), cases, training)}
    return codes.get("training_gap") or codes.get("no_training_gap")


def test_what_is_known_by_heart_is_told() -> None:
    found = against_training(0.6, 0.3)
    assert found is not None
    assert (found.code, found.severity) == ("training_gap", "warning")
    assert found.numbers["dice_training"] == pytest.approx(0.6)
    assert found.numbers["dice_held_out"] == pytest.approx(0.3)
    error = 0.05 * math.sqrt(20 / 19) * math.sqrt(2 / 20)
    assert found.numbers["margin"] == pytest.approx(1.96 * error)
    assert "+0.300 [+0.268, +0.332]" in found.explanation
    assert "pointing_game" in found.explanation


@pytest.mark.parametrize(("known", "held_out"), [(0.6, 0.58), (0.3, 0.6), (0.6, 0.55)])
def test_training_cases_that_are_hardly_better_are_told(known: float, held_out: float) -> None:
    found = against_training(known, held_out)
    assert found is not None
    assert (found.code, found.severity) == ("no_training_gap", "info")


@pytest.mark.parametrize(
    ("known", "held_out", "spread"),
    [(0.6, 0.46, 0.05), (0.4, 0.28, 0.25)],  # may be a quarter or less; may be nothing at all
)
def test_a_gap_that_may_or_may_not_matter_is_not_told(
    known: float, held_out: float, spread: float
) -> None:
    assert against_training(known, held_out, spread=spread) is None


def test_the_cases_of_a_patient_count_once_in_a_gap() -> None:
    """As many patients with four cases each tell no more than with one each."""
    one = case_rows(20)
    for index, row in enumerate(one):
        row |= {"patient_id": f"p{index}", "dice": 0.3 + (0.1 if index % 2 else -0.1)}
    known = [row | {"dice": row["dice"] + 0.3} for row in one]
    four = [row | {"case_id": f"{row['case_id']}-{k}"} for row in one for k in range(4)]
    found = [
        next(f for f in diagnose({}, rows, known) if f.code == "training_gap").numbers
        for rows in (one, four)
    ]
    assert found[0] == pytest.approx(found[1])


def test_few_cases_tell_nothing_of_a_gap() -> None:
    assert against_training(0.6, 0.3, count=9) is None
    rows = case_rows(20)
    assert "gap" not in str([finding.code for finding in diagnose(summary_of(rows), rows)])
