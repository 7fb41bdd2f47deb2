"""The study of the real DRRs: its measures on images whose answer is known, and a smoke run."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from attnseg.config import DataCommandConfig
from attnseg.config.compose import compose_checked
from attnseg.imaging.case import Case
from experiments.lidc_data import defects
from experiments.lidc_data.appearance import (
    DISTANCES,
    appearance_lines,
    edge_lines,
    edge_profile,
    mean_profiles,
)
from experiments.lidc_data.cases import Lesion, Studied, match_annotations
from experiments.lidc_data.lungs import bounding_box, lung_fields
from experiments.lidc_data.observer import STRIDE, predict_map
from experiments.lidc_data.prior import heat_map, padded
from experiments.lidc_data.resolution import dice_after_resampling
from experiments.lidc_data.study import study
from experiments.lidc_data.tables import ceilings, registration
from experiments.lidc_data.visibility import RingFilter, measure_visibility

SIDE = 160


def disc(row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return np.asarray(np.hypot(rows - row, columns - column) <= radius)


def chest(*lesions: tuple[float, float, float], contrast: float = 0.0) -> Studied:
    """Noise with discs (row, column, radius) as lesions, `contrast` brighter; all of it lung."""
    rng = np.random.default_rng(0)
    drr = 100 + 10 * ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 2) / 0.14
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    for lesion in lesions:
        mask |= disc(*lesion)
    labels, count = ndimage.label(mask)
    found = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(labels == number)
        diameter = float(2 * np.sqrt(len(rows) / np.pi))
        centre = (float(rows.mean()), float(columns.mean()))
        found.append(Lesion(number, len(rows), centre, diameter, diameter, 1.0))
    drr = (drr + contrast * mask).astype(np.float32)
    lungs = np.ones_like(mask)
    return Studied(Case("a", "p"), drr, mask, labels.astype(np.int32), lungs, 1.0, found)


def test_lung_fields_find_two_dark_ellipses_in_a_body() -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    body = np.hypot((columns - 0.5) / 0.46, 0) < 1
    lungs = np.zeros_like(body)
    for middle in (0.3, 0.7):
        lungs |= np.hypot((rows - 0.45) / 0.32, (columns - middle) / 0.14) < 1
    image = np.where(body, 180.0, 0.0) - 120.0 * lungs
    image += 30.0 * ((rows * 12 % 1) < 0.25) * lungs  # ribs
    found = lung_fields(image.astype(np.float32))
    assert (found & lungs).sum() > 0.85 * lungs.sum()
    assert (found & ~lungs).sum() < 0.1 * lungs.sum()
    top, left, height, width = bounding_box(found)
    assert abs(top + height / 2 - 0.45 * SIDE) < 6
    assert abs(left + width / 2 - 0.5 * SIDE) < 6


def test_an_image_without_lungs_has_none() -> None:
    assert not lung_fields(np.full((64, 96), 7, dtype=np.uint8)).any()
    assert bounding_box(np.zeros((4, 6), dtype=bool)) == (0, 0, 4, 6)


def test_a_bright_disc_beats_chance_and_an_invisible_one_does_not() -> None:
    visible, invisible = (chest((60, 60, 6), (110, 100, 9), contrast=c) for c in (40.0, 0.0))
    for studied in (visible, invisible):
        measure_visibility(studied, seed=0)
    for lesion in visible.lesions:
        assert lesion.values["beats"] > 0.99
        assert lesion.values["beats_blob"] > 0.95
        assert lesion.values["blobs_above"] <= 1
        assert 30 < lesion.values["contrast"] < 50
    assert all(lesion.values["beats"] < 0.99 for lesion in invisible.lesions)


@settings(max_examples=15, deadline=None)
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-50, 50))
def test_the_ring_filter_does_not_see_a_plane(down: float, right: float, level: float) -> None:
    studied = chest((70, 80, 7), contrast=25.0)
    at = np.array([studied.lesions[0].centre])
    plain = RingFilter(studied, studied.lesions[0])(at)[0]
    rows, columns = np.mgrid[:SIDE, :SIDE]
    studied.drr = (studied.drr + level + down * rows + right * columns).astype(np.float32)
    assert RingFilter(studied, studied.lesions[0])(at)[0] == pytest.approx(plain, abs=0.05)


def test_registration_peaks_where_the_mask_was_moved_from() -> None:
    studied = chest((60, 60, 8), (110, 100, 8), contrast=60.0)
    studied.drr = np.roll(studied.drr, 3, axis=0)
    measure_visibility(studied, seed=0)
    lines = {(line.measure, line.subset): line.value for line in registration([studied])}
    assert lines["peak in y, px", "all"] == pytest.approx(3.0, abs=1.0)
    assert lines["peak in x, px", "all"] == pytest.approx(0.0, abs=1.0)


def test_annotations_find_their_lesions_by_one_offset_of_the_scan() -> None:
    studied = chest((40, 30, 6), (100, 120, 9))
    for_tall = 512 / SIDE  # the CT is 512 wide, this image 160
    others = {"malignancy": "3", "texture": "5"}
    rows = [
        {"x_px": f"{x * for_tall}", "z_mm": f"{-700 - row}", "subtlety": rating, **others}
        for row, x, rating in ((40, 30, "2"), (41, 31, "4"), (100, 120, "5"))
    ]
    match = match_annotations(studied, rows)
    assert match.farthest_px == 0
    first, second = (lesion.ratings for lesion in studied.lesions)
    assert (first["subtlety"], first["n_annotations"]) == (3, 2)
    assert (second["subtlety"], second["n_annotations"]) == (5, 1)


def test_a_perfect_prediction_suffers_from_a_coarser_grid() -> None:
    found = dice_after_resampling(chest((60, 60, 6), (110, 100, 3)), SIDE)
    soft = [found[f"soft_{grid}_0.4"] for grid in (384, 256, 128, 64)]
    assert soft == sorted(soft, reverse=True)
    assert soft[0] > 0.95 > 0.9 > soft[-1]
    assert found["hard_128"] < found["soft_128_0.4"]


def test_ceilings_count_what_is_found_only() -> None:
    studied = chest((60, 60, 5), (110, 100, 8))
    small, large = (lesion.n_pixels for lesion in studied.lesions)
    lines = {(line.measure, line.subset): line.value for line in ceilings([studied])}
    assert lines["lesion sensitivity", "14 px or more"] == 0.5
    assert lines["dice_positive", "14 px or more"] == pytest.approx(
        2 * large / (2 * large + small), abs=1e-6
    )
    assert lines["dice_positive", "CNR > 1"] == 0


def test_the_observers_map_lies_on_the_places_it_was_made_at() -> None:
    studied = chest((60, 60, 5))
    features = np.zeros((SIDE // STRIDE, SIDE // STRIDE, 1), dtype=np.float32)
    features[12, 20] = 8.0
    guess = predict_map(features, lambda values: values[..., 0], studied, SIDE)
    assert np.unravel_index(guess.argmax(), guess.shape) == (12 * STRIDE, 20 * STRIDE)


def test_the_heat_map_is_where_lesions_are_in_the_lungs_box() -> None:
    atlas = heat_map([chest((40, 80, 5))], sigma=6.0)
    row, column = np.unravel_index(atlas.argmax(), atlas.shape)
    side = atlas.shape[0] - 64
    assert row == pytest.approx(32 + 0.25 * side, abs=2)
    assert column == pytest.approx(32 + 0.5 * side, abs=2)
    assert padded(np.ones((2, 4)), 4).sum(1).tolist() == [0, 4, 4, 0]


def test_a_solid_disc_rises_at_its_outline_and_a_smaller_one_inside() -> None:
    whole = disc(80, 80, 20)
    for radius, at in ((20, 0.0), (16, 4.0)):
        profile = edge_profile(disc(80, 80, radius).astype(np.float32), whole)
        assert profile[at - 1 > DISTANCES].max() < 0.1
        assert profile[at + 1 < DISTANCES].min() > 0.9
    profiles = mean_profiles([chest((80, 80, 14), contrast=50.0), chest((40, 40, 5))])
    assert profiles["real"][1] == 1
    shares = {
        line.subset: line.value
        for line in edge_lines(profiles)
        if line.measure == "share of the rise within 1 px of the outline"
    }
    assert shares["real"] > shares["synthetic, solid"]
    assert shares["synthetic, solid"] > 2 * shares["synthetic, as lidc_drr draws them"]


def test_contrast_is_told_by_brightness_and_the_axes_by_the_mask() -> None:
    cases = [chest((80, 80, 12), contrast=level) for level in (10.0, 20.0, 40.0, 80.0)]
    for number, one in enumerate(cases):
        one.drr[:, :] += 0.2 * number * one.drr.std() * (np.arange(SIDE) > 40)
    values = {(line.measure, line.subset): line.value for line in appearance_lines(cases)}
    quarters = [
        values["contrast a px of diameter, sd", f"quarter {i} by grey level"] for i in (1, 2, 3, 4)
    ]
    assert all(value > 0 for value in quarters)
    assert values["ratio of the axes, percentile 50", "all"] == pytest.approx(1.0, abs=0.02)
    assert appearance_lines([chest((80, 80, 3))]) == []


def test_twins_and_repeats_are_found() -> None:
    class Twins:
        def load(self, case: Case) -> object:
            seed = {"a": 0, "b": 0, "c": 1}[case.case_id]
            pixels = np.random.default_rng(seed).integers(0, 255, (96, 96)).astype(np.uint8)
            return type("Images", (), {"drr": pixels})

    cases = [Case("a", "p"), Case("b", "q"), Case("c", "p")]
    raws = [defects.look_at(Twins(), case) for case in cases]  # type: ignore[arg-type]
    assert defects.equal_images(cases, raws) == [["a", "b"]]
    assert [pair[1:] for pair in defects.look_alikes(cases, raws)] == [("a", "b", False)]
    assert defects.repeated_patients(cases) == {"p": ["a", "c"]}


def test_the_study_runs_on_phantoms(tmp_path: Path) -> None:
    words = ["data=phantom", "data.n_cases=10", "data.size=96"]
    data = compose_checked("data_command", words, DataCommandConfig).data
    study(data, 0, tmp_path, tmp_path / "lesions.csv")
    with (tmp_path / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["question"] for row in rows} - {"appearance"} == {  # of larger lesions alone
        "sizes", "ratings", "visibility", "ceiling", "registration",
        "prior", "observer", "resolution", "lungs", "defects", "edges",
    }  # fmt: skip
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    assert drawn == {"sizes", "visibility", "registration", "heat_map", "resolution", "edges"}
    assert (tmp_path / "lesions.csv").read_text().count("\n") > 1
