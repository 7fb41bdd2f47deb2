"""What a comparison leaves behind: the page, the tables and the pictures."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from attnseg.reports.compare.page import Report, write_comparison
from attnseg.reports.compare.pairing import Sampling, choose_baselines, compare_pairs
from attnseg.reports.compare.study import build_study
from attnseg.reports.compare.tables import mean_words
from tests.reports.test_page import Page

from .fakes import compared, fake_run, write_cases

METRICS = ("attention_gt_overlap", "attention_gt_distance", "dice_positive")


def written(paths: list[Path], folder: Path, n_cases: int = 2, notes: tuple[str, ...] = ()) -> Page:
    study = build_study(compared(paths))
    study.notes += notes
    pairs = compare_pairs(study, choose_baselines(study, None), METRICS, Sampling(n_resamples=200))
    cases = [f"case-{index:03d}" for index in range(n_cases)]
    report = Report("Comparison", METRICS, "dice_positive", case_ids=cases, command="attnseg <x>")
    return Page(write_comparison(study, pairs, report, folder))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Path]:
    root = tmp_path_factory.mktemp("page")
    paths = [
        fake_run(root / "a", "schedule=none", quality=0.5, maps=True),
        fake_run(root / "b", "schedule=two_phase", quality=0.8, maps=True),
        fake_run(root / "c", "schedule=two_phase", "seed=2", quality=0.7, maps=True),
        fake_run(root / "d", "schedule=none", "seed=2", state="failed", reason="loss is <NaN>"),
    ]
    return written(paths, root / "out", notes=("a <b>note</b>",)), root / "out"


def test_the_page_has_every_part(made: tuple[Page, Path]) -> None:
    seen, folder = made
    for expected in (
        "4 runs of 2 configurations, 3 of them counted",
        "24 cases of 12 patients, 20 with a lesion",
        "schedule=two_phase",
        "failed: loss is <NaN>",
        "a <b>note</b>",
        "95 % interval",
        "Holm-corrected over the 3 tests",
        "attnseg <x>",
    ):
        assert expected in seen.text, expected
    pictures = ["curves.png", "schedules.png", "scatter.png", "comparison.png"]
    for name in (*pictures, "compare.csv", "groups.csv", "paired.csv", "compare.md"):
        assert (folder / name).is_file(), name
    images = [value for tag, name, value in seen.attributes if (tag, name) == ("img", "src")]
    assert len(images) == len(pictures)


def test_the_page_needs_nothing_but_itself(made: tuple[Page, Path]) -> None:
    seen, folder = made
    for _, name, value in seen.attributes:
        if name in ("src", "href", "srcset", "action"):
            assert value.startswith("data:image/"), value[:60]
    text = (folder / "compare.html").read_text()
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttp", text)
    assert not {"link", "iframe", "object"} & seen.tags


def test_sorting_is_the_only_script_and_every_cell_can_be_sorted(made: tuple[Page, Path]) -> None:
    seen, folder = made
    text = (folder / "compare.html").read_text()
    assert text.count("<script>") == 1
    assert "<button" not in text, "without a script there must be no dead buttons"
    cells = [name for tag, name, _ in seen.attributes if (tag, name) == ("td", "data-sort")]
    assert len(cells) == text.count("<td ")
    assert "nan" not in re.findall(r'data-sort="([^"]*)"', text)


def test_tables_say_the_same_in_full_precision(made: tuple[Page, Path]) -> None:
    _, folder = made
    with (folder / "compare.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["state"] for row in rows] == ["finished", "failed", "finished", "finished"]
    assert rows[1]["left_out"] == "failed: loss is <NaN>"
    assert rows[1]["dice_positive"] == ""
    with (folder / "groups.csv").open() as stream:
        groups = {row["run"]: row for row in csv.DictReader(stream)}
    ours = [float(row["dice_positive"]) for row in rows if row["schedule.name"] == "two_phase"]
    assert float(groups["schedule=two_phase"]["dice_positive_mean"]) == pytest.approx(sum(ours) / 2)
    assert groups["schedule=none"]["dice_positive_sd"] == ""
    markdown = (folder / "compare.md").read_text()
    assert "| schedule=two_phase | 2 |" in markdown
    assert "![Curves](curves.png)" in markdown


def test_pictures_of_an_earlier_comparison_do_not_stay(tmp_path: Path) -> None:
    for name in ("comparison-2.png", "heatmap.png", "mine.png"):
        (tmp_path / name).write_bytes(b"old")
    run = fake_run(tmp_path / "a")
    written([run], tmp_path)
    assert not (tmp_path / "comparison-2.png").exists()
    assert not (tmp_path / "heatmap.png").exists()
    assert (tmp_path / "mine.png").exists()


def test_many_configurations_make_several_pictures(tmp_path: Path) -> None:
    paths = [fake_run(tmp_path / lr, f"optim.lr={lr}") for lr in ("1e-4", "1e-3", "2e-3", "3e-3")]
    for path in paths:
        write_cases(path, maps=True)
    written(paths, tmp_path / "out", n_cases=1)
    assert {p.name for p in (tmp_path / "out").glob("comp*.png")} == {
        "comparison.png",
        "comparison-2.png",
    }


def test_numbers_keep_their_decimals() -> None:
    nan = float("nan")
    assert mean_words(0.5, 0.00094) == "0.500 ± 0.001"
    assert mean_words(92.04, 18.33) == "92.0 ± 18.3"
    assert mean_words(0.5, nan) == "0.500"
    assert mean_words(nan, nan) == "–"
