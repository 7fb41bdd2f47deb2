"""Differences case by case: against a hand-made reference, laws, refusals."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from attnseg.common.errors import ConfigError
from attnseg.reports.compare.pairing import (
    Comparison,
    Sampling,
    choose_baselines,
    compare_pairs,
)
from attnseg.reports.compare.study import Study, build_study

from .fakes import compared, fake_run, grid, write_cases

FEW = Sampling(n_resamples=300)


def study_of(*paths: Path) -> Study:
    return build_study(compared(paths))


def compare(study: Study, baseline: str | None = None, *metrics: str) -> list[Comparison]:
    chosen = choose_baselines(study, baseline)
    return compare_pairs(study, chosen, metrics or ("dice_positive",), FEW)


def dice(run: Path) -> dict[str, float]:
    with (run / "evaluate" / "phantom-test" / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return {row["case_id"]: float(row["dice"]) for row in rows if row["dice"]}


def test_difference_and_test_by_hand_over_two_seeds(tmp_path: Path) -> None:
    ours = [fake_run(tmp_path / f"a{s}", "schedule=none", f"seed={s}") for s in (1, 2)]
    theirs = fake_run(tmp_path / "b", quality=0.6)
    (found,) = compare(study_of(theirs, *ours))
    tables = [dice(path) for path in ours]
    other = dice(theirs)
    values = np.array([np.mean([t[case] for t in tables]) - other[case] for case in sorted(other)])
    assert found.difference == pytest.approx(values.mean())
    patients = [int(case.removeprefix("case-")) // 2 for case in sorted(other)]
    means = [np.mean(values[[p == patient for p in patients]]) for patient in sorted(set(patients))]
    assert found.p == pytest.approx(wilcoxon(means).pvalue)
    assert found.p != pytest.approx(wilcoxon(values).pvalue)
    assert (found.n_cases, found.n_patients, found.n_seeds) == (20, 12, (2, 1))
    assert found.low < found.difference < found.high


def test_a_baseline_against_itself_differs_by_nothing(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "schedule=none")
    twin = fake_run(tmp_path / "b", "schedule=two_phase", evaluated=None)
    write_cases(twin)
    first = tmp_path / "a" / "evaluate" / "phantom-test" / "cases.csv"
    (twin / "evaluate" / "phantom-test" / "cases.csv").write_bytes(first.read_bytes())
    (found,) = compare(study_of(tmp_path / "a", twin))
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_sign_flips_when_the_sides_are_swapped(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "schedule=none", quality=0.5)
    fake_run(tmp_path / "b", "schedule=two_phase", quality=0.7)
    study = study_of(tmp_path / "a", tmp_path / "b")
    (one,) = compare(study, "schedule=none")
    (other,) = compare(study, "schedule=two_phase")
    assert one.difference == -other.difference > 0
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p == other.p


def test_order_of_runs_does_not_matter_to_a_named_baseline(tmp_path: Path) -> None:
    grid(tmp_path, {"attention": ["drr"], "schedule": ["none", "two_phase", "constant"]})
    paths = sorted(tmp_path.iterdir())

    def numbers(order: list[Path]) -> dict[str, tuple[float, ...]]:
        found = compare(study_of(*order), "schedule=none")
        return {one.group: (one.difference, one.low, one.high, one.p_holm) for one in found}

    first, last = numbers(paths), numbers(paths[::-1])
    assert first.keys() == last.keys()
    for label, values in first.items():
        assert values == pytest.approx(last[label], rel=1e-9), label


def test_holm_is_over_all_tests_of_the_study(tmp_path: Path) -> None:
    grid(tmp_path, {"attention": ["drr"], "schedule": ["none", "two_phase", "constant"]})
    found = compare(study_of(*sorted(tmp_path.iterdir())), None, "dice_positive", "hd95")
    assert len(found) == 2, "a metric without values a case is left out"
    smallest = min(found, key=lambda one: one.p)
    assert smallest.p_holm == pytest.approx(min(1.0, 2 * smallest.p))


@pytest.mark.parametrize("seed_too", [False, True])
def test_runs_on_different_cases_are_refused_not_intersected(
    tmp_path: Path, seed_too: bool
) -> None:
    fake_run(tmp_path / "a", "schedule=none")
    fake_run(tmp_path / "b", "schedule=two_phase", ids=range(2, 26))
    paths = [tmp_path / "a", tmp_path / "b"]
    if seed_too:  # the difference is within a group
        paths.append(fake_run(tmp_path / "c", "schedule=two_phase", "seed=2"))
    study = study_of(*paths)
    (found,) = compare(study)
    assert math.isnan(found.difference)
    assert "measured on different cases" in found.note
    assert "2 only in" in found.note
    assert "case-000" in found.note
    assert "case-024" in found.note
    assert any("different cases" in note for note in study.notes)


def test_the_same_ids_with_other_masks_are_refused(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "schedule=none")
    fake_run(tmp_path / "b", "schedule=two_phase", mask_pixels=50)
    (found,) = compare(study_of(tmp_path / "a", tmp_path / "b"))
    assert "another ground truth" in found.note
    assert math.isnan(found.p)


def test_too_few_is_said(tmp_path: Path) -> None:
    few = {"ids": range(4), "per_patient": 2}
    fake_run(tmp_path / "a", "schedule=none", **few)
    fake_run(tmp_path / "b", "schedule=two_phase", quality=0.9, **few)
    study = study_of(tmp_path / "a", tmp_path / "b")
    (found,) = compare(study)
    assert "2 differing patients cannot reach p < 0.05" in found.note
    assert "interval of 2 patients is too narrow" in found.note
    assert any("one seed" in note for note in study.notes)


def test_an_unmeasured_group_is_refused_and_named(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "schedule=none")
    fake_run(tmp_path / "b", "schedule=two_phase", evaluated=None)
    (found,) = compare(study_of(tmp_path / "a", tmp_path / "b"))
    assert "no finished run of schedule=two_phase" in found.note


def test_a_key_that_picks_several_compares_like_with_like(tmp_path: Path) -> None:
    grid(tmp_path, {"attention": ["drr", "anatomical"], "schedule": ["none", "two_phase"]})
    study = study_of(*sorted(tmp_path.iterdir()))
    pairs = {(one.group, one.baseline) for one in compare(study, "schedule=none")}
    assert pairs == {
        ("attention=drr, schedule=two_phase", "attention=drr, schedule=none"),
        ("attention=anatomical, schedule=two_phase", "attention=anatomical, schedule=none"),
    }


def test_a_baseline_that_is_none_is_refused_with_what_there_is(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "schedule=none")
    fake_run(tmp_path / "b", "schedule=two_phase")
    with pytest.raises(ConfigError, match=r"fits no run here.*schedule=two_phase"):
        choose_baselines(study_of(tmp_path / "a", tmp_path / "b"), "schedule=three_phase")


def test_a_metric_that_one_side_has_not_is_told_once(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "schedule=none")
    fake_run(tmp_path / "b", "schedule=two_phase")
    cases = tmp_path / "a" / "evaluate" / "phantom-test" / "cases.csv"
    with cases.open() as stream:
        rows = [row | {"attention_gt_overlap": ""} for row in csv.DictReader(stream)]
    with cases.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    study = study_of(tmp_path / "a", tmp_path / "b")
    found = compare(study, None, "attention_gt_overlap", "dice_positive")
    assert [one.n_cases for one in found] == [0, 20]
    (note,) = [note for note in study.notes if "attention_gt_overlap" in note]
    assert "not defined for schedule=none" in note
