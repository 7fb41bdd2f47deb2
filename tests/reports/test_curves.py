"""Curves of ledgers that are long, short, sparse, wide and broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnseg.common.errors import DataError
from attnseg.reports import curves
from attnseg.reports.curves import Phase, draw_curves, phases_of, read_rows
from attnseg.reports.style import TARGETS
from attnseg.runs.ledger import write_row

from .fakes import ledger_row, run_folder


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    caught: list[Any] = []

    def catch(figure: Any, path: Path) -> Path:
        caught.append(figure)
        return path

    monkeypatch.setattr(curves, "save_png", catch)
    return caught


def panels(figure: Any) -> dict[str, Any]:
    """Panels by title; those switched off have none."""
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.axison}


def legend(axes: Any) -> list[str]:
    return [text.get_text().split("  ")[0] for text in axes.get_legend().get_texts()]


def test_every_kind_of_column_is_drawn(tmp_path: Path, figures: list[Any]) -> None:
    draw_curves(run_folder(tmp_path, 9) / "metrics.csv", Path("x.png"), "a run")
    drawn = panels(figures[0])
    assert legend(drawn["loss"]) == ["total", "segmentation", "attention", "alignment"]
    assert "segmentation/dice" in legend(drawn["loss by term"])
    assert "dice_positive" in legend(drawn["segmentation: Dice and IoU"])
    assert legend(drawn["loss weights"]) == ["alignment", "attention", "segmentation"]
    assert legend(drawn["learning rates"]) == ["attention", "backbone", "head"]
    assert figures[0].get_suptitle() == "a run"


def test_wanted_values_are_drawn_where_they_belong(tmp_path: Path, figures: list[Any]) -> None:
    draw_curves(run_folder(tmp_path, 6) / "metrics.csv", Path("x.png"))
    wanted = {}
    for title, axes in panels(figures[0]).items():
        levels = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        wanted |= {title: levels} if levels else {}
    assert wanted == {
        "overlap of the top 10 % of pixels": [0.6, 0.4],
        "correlation over pixels": [0.3],
        "distance to the lesion, px at 512": [50.0],
        "segmentation: Dice and IoU": [TARGETS["dice_positive"].wanted],
    }


def test_phases_are_shaded_and_named(tmp_path: Path, figures: list[Any]) -> None:
    draw_curves(run_folder(tmp_path, 9) / "metrics.csv", Path("x.png"))
    axes = panels(figures[0])["loss"]
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert spans == [(0.5, 3.5), (3.5, 9.5)]
    key = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert "1 attention supervision: epochs 1–3" in key
    assert "2 joint: epochs 4–9" in key


def test_blank_epochs_are_bridged(tmp_path: Path, figures: list[Any]) -> None:
    draw_curves(run_folder(tmp_path, 9, every=4) / "metrics.csv", Path("x.png"))
    line = panels(figures[0])["overlap of the top 10 % of pixels"].lines[0]
    assert list(line.get_xdata()) == [1, 5, 9]
    assert "nan" not in " ".join(str(value) for value in line.get_ydata())


def test_one_epoch_is_seen_as_points(tmp_path: Path, figures: list[Any]) -> None:
    draw_curves(run_folder(tmp_path, 1) / "metrics.csv", Path("x.png"))
    lines = [line for line in panels(figures[0])["loss"].lines if len(line.get_xdata()) == 1]
    assert lines
    assert all(line.get_marker() == "o" for line in lines)


def test_missing_columns_leave_panels_out(tmp_path: Path) -> None:
    ledger = tmp_path / "metrics.csv"
    for epoch in range(3):
        write_row(ledger, {"epoch": epoch + 1, "train/loss/total": 1.0 / (epoch + 1)})
    path = draw_curves(ledger, tmp_path / "curves.png")
    assert path.stat().st_size > 1000


def test_only_blank_cells_still_make_a_picture(tmp_path: Path) -> None:
    write_row(tmp_path / "metrics.csv", {"epoch": 1, "val/dice_positive": float("nan")})
    assert draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png").is_file()


def test_unknown_columns_get_a_panel_and_too_many_are_counted(
    tmp_path: Path, figures: list[Any]
) -> None:
    ledger = tmp_path / "metrics.csv"
    write_row(ledger, {"epoch": 1, **{f"val/extra_{index:02d}": index for index in range(40)}})
    draw_curves(ledger, Path("x.png"))
    titles = [axes.get_title(loc="left") for axes in figures[0].axes if axes.axison]
    assert titles == ["other metrics (26 more in metrics.csv)"] * 2
    drawn = [name for axes in figures[0].axes for name in legend(axes)]
    assert drawn == [f"extra_{index:02d}" for index in range(14)]


def test_lesions_by_size_have_their_own_panel(tmp_path: Path, figures: list[Any]) -> None:
    sizes = {f"val/lesion_sensitivity_{size}": 0.3 for size in ("10_to_20mm", "above_20mm")}
    counts = {"val/n_lesions": 9, "val/froc_mean": 0.2, "val/hd95_mm": 3.0}
    write_row(tmp_path / "metrics.csv", {"epoch": 1, **sizes, **counts})
    draw_curves(tmp_path / "metrics.csv", Path("x.png"))
    drawn = panels(figures[0])
    assert list(drawn) == ["lesions found at the threshold, by size"]
    assert legend(drawn["lesions found at the threshold, by size"]) == ["10_to_20mm", "above_20mm"]


def test_a_frozen_part_with_rate_zero_needs_no_logarithm(
    tmp_path: Path, figures: list[Any]
) -> None:
    for epoch in range(4):
        row = ledger_row(epoch) | {"lr/backbone": 0.0}
        write_row(tmp_path / "metrics.csv", row)
    draw_curves(tmp_path / "metrics.csv", Path("x.png"))
    assert panels(figures[0])["learning rates"].get_yscale() == "linear"


def test_infinite_loss_does_not_break_the_axis(tmp_path: Path) -> None:
    for epoch, loss in enumerate((1.0, 0.5, float("inf"))):
        write_row(tmp_path / "metrics.csv", {"epoch": epoch, "train/loss/total": loss})
    assert draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png").is_file()


def test_a_phase_that_comes_back_is_two_phases() -> None:
    names = ["a", "a", "b", "", "a"]
    rows = [{"epoch": str(index), "phase": name} for index, name in enumerate(names)]
    assert phases_of(rows) == [Phase("a", 0, 1), Phase("b", 2, 2), Phase("a", 4, 4)]


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        draw_curves(tmp_path / "absent.csv", tmp_path / "x.png")
    other = tmp_path / "other.csv"
    other.write_text("case_id,dice\na,1\n")
    with pytest.raises(DataError, match="not a ledger"):
        read_rows(other)
