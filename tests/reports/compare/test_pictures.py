"""What is drawn, by matplotlib's own objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnseg.common.errors import ConfigError
from attnseg.reports.compare import courses, heatmap, scatter
from attnseg.reports.compare.heatmap import heat_cells, heat_keys
from attnseg.reports.compare.study import Study, build_study
from attnseg.reports.style import SERIES
from attnseg.runs.records import read_record

from .fakes import compared, fake_run, grid


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    caught: list[Any] = []

    def catch(figure: Any, path: Path) -> Path:
        caught.append(figure)
        return path

    for module in (courses, scatter, heatmap):
        monkeypatch.setattr(module, "save_png", catch)
    return caught


def study_of(*paths: Path) -> Study:
    return build_study(compared(paths))


def panel(figure: Any, title: str) -> Any:
    return next(a for a in figure.axes if a.get_title(loc="left").startswith(title))


def lines(axes: Any) -> list[Any]:
    return [
        line for line in axes.lines if len(line.get_xdata()) > 1 and line.get_linestyle() != ":"
    ]


def test_curves_end_where_runs_end_with_a_cross_if_unfinished(
    tmp_path: Path, figures: list[Any]
) -> None:
    fake_run(tmp_path / "a", "schedule=none", epochs=4)
    fake_run(tmp_path / "b", "schedule=two_phase", epochs=2, state="failed", reason="NaN")
    study = study_of(tmp_path / "a", tmp_path / "b")
    courses.draw_metric_curves(study, ["dice_positive", "no_such_metric"], Path("x.png"))
    axes = panel(figures[0], "dice_positive")
    first, second = lines(axes)
    assert list(first.get_xdata()) == [1, 2, 3, 4]
    assert list(second.get_xdata()) == [1, 2]
    (cross,) = [line for line in axes.lines if line.get_marker() == "X"]
    assert cross.get_xdata() == [2]
    assert not [a for a in figures[0].axes if "no_such" in a.get_title(loc="left")]


def test_seeds_share_a_colour_and_their_mean_is_drawn(tmp_path: Path, figures: list[Any]) -> None:
    for seed, quality in ((1, 0.5), (2, 0.7)):
        fake_run(tmp_path / str(seed), f"seed={seed}", quality=quality)
    study = study_of(tmp_path / "1", tmp_path / "2")
    courses.draw_metric_curves(study, ["dice_positive"], Path("x.png"))
    drawn = lines(panel(figures[0], "dice_positive"))
    assert [line.get_color() for line in drawn] == [SERIES[0]] * 3
    heights = [np.array(line.get_ydata()) for line in drawn]
    assert heights[2] == pytest.approx((heights[0] + heights[1]) / 2)


def test_one_layout_shades_the_panel_and_several_are_strips(
    tmp_path: Path, figures: list[Any]
) -> None:
    fake_run(tmp_path / "a", "schedule=two_phase", "optim.lr=1e-3")
    fake_run(tmp_path / "b", "schedule=two_phase", "optim.lr=2e-3")
    fake_run(tmp_path / "c", "schedule=none")

    def spans(*names: str) -> list[tuple[float, float]]:
        courses.draw_metric_curves(
            study_of(*(tmp_path / name for name in names)), ["dice_positive"], Path("x.png")
        )
        axes = panel(figures[-1], "dice_positive")
        return [(patch.get_y(), patch.get_width()) for patch in axes.patches]

    alike = spans("a", "b")
    assert [y for y, _ in alike] == [0.0, 0.0]
    assert sum(width for _, width in alike) == 4, "the phases cover the four epochs"
    assert all(y > 1 for y, _ in spans("a", "c")), "strips lie above the panel"


def test_schedules_are_drawn_once_each(tmp_path: Path, figures: list[Any]) -> None:
    grid(tmp_path, {"attention": ["drr", "anatomical"], "schedule": ["none", "two_phase"]})
    courses.draw_schedules(study_of(*sorted(tmp_path.iterdir())), Path("x.png"))
    axes = panel(figures[0], "weight of the attention loss")
    assert len([line for line in axes.lines if len(line.get_xdata()) == 4]) == 2
    words = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert words[:2] == ["schedule=none", "schedule=two_phase"]
    assert words[2:] == [
        "schedule=none: 1 unsupervised 1–4",
        "schedule=two_phase: 1 attention_supervision 1, 2 joint 2–4",
    ]
    supervised = axes.lines[1].get_ydata()
    assert (supervised[0], supervised[-1]) == pytest.approx((0.1, 0.05))


def test_adaptive_weights_are_the_ledgers(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "schedule=uncertainty")
    (group,) = study_of(tmp_path / "a").groups
    expected = [float(r["weight/attention"]) for r in read_record(tmp_path / "a").rows]
    assert [value for _, value in courses.weight_curves(group)["attention"]] == expected


def test_scatter_has_a_mark_a_case_and_a_mark_a_run(tmp_path: Path, figures: list[Any]) -> None:
    for seed in (1, 2):
        fake_run(tmp_path / str(seed), f"seed={seed}")
    fake_run(tmp_path / "c", "schedule=none", state="failed")
    study = study_of(*(tmp_path / name for name in ("1", "2", "c")))
    scatter.draw_scatter(study, Path("x.png"))
    cases, runs = figures[0].axes
    assert [len(line.get_xdata()) for line in cases.lines if line.get_marker() == "o"] == [20]
    assert [len(line.get_xdata()) for line in runs.lines if line.get_marker() == "o"] == [2]


def test_heat_map_of_the_only_two_keys(tmp_path: Path, figures: list[Any]) -> None:
    grid(tmp_path, {"attention": ["drr", "anatomical"], "optim.lr": ["1e-2", "1e-3"]})
    study = study_of(*sorted(tmp_path.iterdir()))
    keys = heat_keys(study, [])
    assert keys == ("attention.name", "optim.lr")
    rows, columns, cells = heat_cells(study, keys, "dice_positive")
    assert (rows, columns) == (["anatomical", "drr"], ["0.001", "0.01"]), "numbers by size"
    heatmap.draw_heatmap(study, keys, "dice_positive", Path("x.png"))
    image = figures[0].axes[0].images[0].get_array()
    assert image[1, 0] == pytest.approx(np.mean(cells["drr", "0.001"]))
    assert len(cells["drr", "0.001"]) == 2
    words = {text.get_text() for text in figures[0].axes[0].texts}
    assert any("±" in word and word.endswith("(2)") for word in words)


def test_two_runs_that_change_both_keys_are_no_grid(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "attention=drr", "schedule=none")
    fake_run(tmp_path / "b", "attention=anatomical", "schedule=two_phase")
    study = study_of(tmp_path / "a", tmp_path / "b")
    assert heat_keys(study, []) is None
    assert heat_keys(study, ["attention", "schedule"]) == ("attention.name", "schedule.name")


def test_heat_map_by_name_averages_over_the_rest(tmp_path: Path) -> None:
    grid(tmp_path / "1", {"attention": ["drr", "anatomical"], "schedule": ["none"]})
    fake_run(tmp_path / "x", "attention=drr", "schedule=two_phase", "optim.lr=5e-3")
    runs = [*sorted((tmp_path / "1").iterdir()), tmp_path / "x"]
    study = study_of(*runs)
    assert heat_keys(study, []) is None, "three keys differ"
    keys = heat_keys(study, ["schedule", "attention"])
    assert keys == ("schedule.name", "attention.name")
    *_, cells = heat_cells(study, keys, "dice_positive")
    assert ("two_phase", "anatomical") not in cells
    assert len(cells["none", "drr"]) == 2
    assert heatmap.draw_heatmap(study, keys, "no_metric", Path("x.png")) is None
    with pytest.raises(ConfigError, match=r"data\.size is not a key that differs"):
        heat_keys(study, ["schedule", "data.size"])
