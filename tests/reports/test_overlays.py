"""Pictures of cases: what is in them, by matplotlib's own objects."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.reports import overlays
from attnseg.reports.overlays import (
    OverlayCase,
    draw_comparison,
    draw_overlay,
    draw_overlays,
    zoom_box,
)
from attnseg.reports.style import PREDICTION, TRUTH

from .fakes import overlay_case


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that would have been saved."""
    caught: list[Any] = []

    def catch(figure: Any, path: Path) -> Path:
        caught.append(figure)
        return path

    monkeypatch.setattr(overlays, "save_png", catch)
    return caught


def words(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def outlines(axes: Any) -> set[str]:
    """Colours of the contours in some axes."""
    from matplotlib.colors import to_hex
    from matplotlib.contour import ContourSet

    return {to_hex(c.get_edgecolor()[0]).upper() for c in axes.findobj(ContourSet)}


def panel(figure: Any, title: str) -> Any:
    return next(axes for axes in figure.findobj(_is_axes) if axes.get_title().startswith(title))


def _is_axes(artist: Any) -> bool:
    return hasattr(artist, "get_title") and hasattr(artist, "get_xlim")


def test_draws_a_png_of_every_case(tmp_path: Path) -> None:
    from matplotlib.image import imread

    loaded_before = "matplotlib.pyplot" in sys.modules  # by another test, or a library of its
    path = tmp_path / "new" / "folder" / "cases.png"
    assert draw_overlays([overlay_case(0), overlay_case(1)], path, "epoch 3") == path
    two = imread(path)
    one = imread(draw_overlay(overlay_case(0), tmp_path / "one.png"))
    assert two.shape[1] == one.shape[1] > 1000
    assert two.shape[0] > 1.5 * one.shape[0]
    loaded = "matplotlib.pyplot" in sys.modules
    assert loaded == loaded_before, "pyplot keeps figures and is not thread-safe"
    assert not list(tmp_path.glob("**/.*")), "a temporary file is left"


def test_threads_draw_the_same_picture(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda path: draw_overlay(overlay_case(0), path), paths))
    assert len({path.read_bytes() for path in paths}) == 1


def test_panels_contours_and_metrics(figures: list[Any]) -> None:
    draw_overlay(overlay_case(0), Path("x.png"), "validation")
    figure = figures[0]
    text = words(figure)
    for expected in ("X-ray", "DRR", "attention on DRR", "prediction", "zoom", "validation"):
        assert expected in text
    assert "Dice 0.63" in text
    assert "px" in text
    assert "probability" in text
    assert outlines(panel(figure, "prediction >")) == {TRUTH, PREDICTION}
    assert outlines(panel(figure, "attention on DRR")) == {TRUTH}
    assert outlines(panel(figure, "X-ray")) == set()


def test_heat_is_on_a_scale_from_0_to_1(figures: list[Any]) -> None:
    faint = replace(overlay_case(0), attention=np.full((96, 96), 0.2))
    draw_overlay(faint, Path("x.png"))
    for title in ("attention on DRR", "probability"):
        heat = panel(figures[0], title).images[-1]
        assert (heat.norm.vmin, heat.norm.vmax) == (0, 1), "a flat map must not look lively"


def test_probability_is_bright_where_a_low_threshold_is_passed(figures: list[Any]) -> None:
    draw_overlay(replace(overlay_case(0), threshold=0.04), Path("x.png"))
    assert panel(figures[0], "probability").images[-1].norm.vmax == 0.08


def test_case_without_lesion_shows_what_was_predicted(figures: list[Any]) -> None:
    case = overlay_case(0, lesion=False)
    draw_overlay(case, Path("x.png"))
    assert outlines(panel(figures[0], "prediction >")) == {PREDICTION}
    assert "no lesion" in words(figures[0])
    assert f"{int(case.prediction.sum())} px found" in words(figures[0])


def test_empty_everything_and_nan_attention_are_drawn(tmp_path: Path) -> None:
    zero = np.zeros((32, 48))
    draw_overlay(OverlayCase("zero", zero, zero, zero, zero, zero), tmp_path / "zero.png")
    nan = np.full_like(zero, np.nan)
    draw_overlay(OverlayCase("nan", zero, zero, zero, nan, zero), tmp_path / "nan.png")


def test_padding_is_cropped(figures: list[Any]) -> None:
    case = overlay_case(0)
    assert case.cropped().mask.shape == (80, 96)
    assert case.cropped().mask.sum() == case.mask.sum()
    draw_overlay(case, Path("x.png"))
    assert panel(figures[0], "X-ray").images[0].get_array().shape == (80, 96)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), height=st.integers(20, 90), width=st.integers(20, 90))
def test_zoom_holds_the_lesion_and_keeps_proportions(
    data: st.DataObject, height: int, width: int
) -> None:
    top = data.draw(st.integers(0, height - 1))
    left = data.draw(st.integers(0, width - 1))
    mask = np.zeros((height, width))
    mask[top : top + data.draw(st.integers(1, 30)), left : left + data.draw(st.integers(1, 30))] = 1
    box = zoom_box(OverlayCase("a", mask, mask, mask, mask, np.zeros_like(mask)))
    inside = mask[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
    assert inside.sum() == mask.sum()
    assert inside.shape == box[2:], "the box reaches out of the image"
    assert abs(box[2] * width - box[3] * height) <= (width + height) / 2, "more than rounding"


def test_zoom_without_lesion_goes_to_prediction_then_peak() -> None:
    zero, spot, peak = (np.zeros((60, 60)) for _ in range(3))
    spot[50:53, 50:53], peak[5, 5] = 0.9, 1.0
    top, left, *_ = zoom_box(OverlayCase("a", zero, zero, zero, peak, spot))
    assert top > 30
    assert left > 30
    top, left, *_ = zoom_box(OverlayCase("a", zero, zero, zero, peak, zero))
    assert top < 10
    assert left < 10


def test_comparison_shows_shared_cases_and_each_runs_metrics(figures: list[Any]) -> None:
    ours = [overlay_case(seed) for seed in (0, 1, 2)]
    theirs = [overlay_case(seed, 0.1) for seed in (2, 1)]
    headers = {"ours": {"dice_positive": 0.61, "hd95": 3.0}, "theirs": {"dice_positive": 0.02}}
    draw_comparison({"ours": ours, "theirs": theirs}, Path("x.png"), headers)
    text = words(figures[0])
    assert "case-000" not in text, "drawn although one run does not have it"
    assert text.index("case-001") < text.index("case-002")
    assert "ours\nDice 0.61" in text
    assert "theirs\nDice 0.02" in text


def test_comparison_without_headers_says_what_its_means_are_over(figures: list[Any]) -> None:
    runs = {"good": [overlay_case(0), overlay_case(1)], "bad": [overlay_case(0, 0.1)]}
    draw_comparison(runs, Path("x.png"))
    assert "mean of these 1" in words(figures[0])
    with pytest.raises(AssertionError, match="no case in common"):
        draw_comparison({"a": [overlay_case(0)], "b": [overlay_case(1)]}, Path("x.png"))


def test_images_on_different_grids_are_a_programmers_error() -> None:
    with pytest.raises(AssertionError, match="different grids"):
        replace(overlay_case(0), mask=np.zeros((5, 5)))
