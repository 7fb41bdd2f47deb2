from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnseg.common.errors import DataError
from attnseg.imaging.annotations import Box, Disc, Nodule, Polygon
from attnseg.imaging.annotations.chestx_det import read_chestx_det
from attnseg.imaging.annotations.plane import radiograph_mask
from tests.imaging.annotations.formats import chestx_entry


def _mask(*shapes: Any, size: tuple[int, int] = (40, 50), **options: Any) -> np.ndarray:
    nodules = [Nodule(str(i), shape) for i, shape in enumerate(shapes)]
    mask, problems = radiograph_mask(nodules, size, **options)
    assert problems == []
    return mask


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 9), st.integers(1, 9))
def test_a_box_covers_its_pixels(left: int, top: int, width: int, height: int) -> None:
    mask = _mask(Box(left, top, left + width, top + height))
    wanted = np.zeros((40, 50), np.uint8)
    wanted[top : top + height, left : left + width] = 1
    np.testing.assert_array_equal(mask, wanted)


def test_a_box_may_be_taken_for_its_ellipse() -> None:
    box = Box(10, 8, 30, 20)
    inside = _mask(box, rule="ellipse")
    assert inside.sum() == pytest.approx(np.pi / 4 * 20 * 12, rel=0.05)
    assert not (inside & ~_mask(box) & 1).any()


def test_a_tiny_box_keeps_a_pixel() -> None:
    assert _mask(Box(10.6, 10.6, 10.9, 10.9)).sum() == 1
    assert _mask(Box(49.8, 39.8, 50.0, 40.0)).sum() == 1


def test_a_polygon_has_its_outline_and_what_it_encloses() -> None:
    triangle = Polygon(((10.0, 10.0), (20.0, 10.0), (10.0, 20.0)))
    mask = _mask(triangle)
    assert mask[10, 10:21].all()
    assert mask[10:21, 10].all()
    assert mask.sum() == 11 * 12 / 2
    assert _mask(triangle, rule="box").sum() == 121
    assert _mask(triangle, rule="ellipse").sum() == pytest.approx(np.pi / 4 * 121, rel=0.08)


def test_shapes_are_scaled_with_the_image() -> None:
    """The same lesion on a picture of half the size covers a quarter of the pixels."""
    disc = Disc((1000.0, 1200.0), 80.0)
    whole = _mask(disc, size=(2048, 2048))
    half = _mask(disc, size=(1024, 1024), scale=0.5)
    assert half.sum() == pytest.approx(whole.sum() / 4, rel=0.03)
    rows, columns = np.nonzero(half)
    assert (rows.mean(), columns.mean()) == pytest.approx((599.75, 499.75), abs=0.3)


def test_what_lies_outside_is_named_and_what_sticks_out_is_cut() -> None:
    nodules = [
        Nodule("disc", Disc((60.0, 5.0), 9.0)),
        Nodule("box", Box(-9, 3, 0, 9)),
        Nodule("polygon", Polygon(((60.0, 1.0), (70.0, 1.0), (65.0, 9.0)))),
        Nodule("cut", Box(45, 35, 60, 60)),
    ]
    mask, problems = radiograph_mask(nodules, (40, 50))
    assert mask.sum() == 25
    assert [problem.split(":")[0] for problem in problems] == [
        "lesion disc",
        "lesion box",
        "lesion polygon",
    ]
    assert "its centre (60, 5) is outside; the image has 50 x 40 px" in problems[0]


def _json(path: Path, *entries: Any) -> Path:
    path.write_text(json.dumps(list(entries)))
    return path


def test_chestx_det_s_findings_by_kind(tmp_path: Path) -> None:
    path = _json(
        tmp_path / "ChestX_Det_train.json",
        chestx_entry("00000042_006.png", ["Fibrosis", "Nodule", "Mass"]),
        chestx_entry("00000043_000.png"),
        {"file_name": "00000044_000.png", "syms": ["Nodule"], "boxes": [[1, 2, 5, 9]]},
    )
    found = read_chestx_det(path, ["Nodule", "Mass"])
    assert [nodule.label for nodule in found["00000042_006.png"]] == ["Nodule", "Mass"]
    assert isinstance(found["00000042_006.png"][0].shape, Polygon)
    assert found["00000043_000.png"] == ()
    assert found["00000044_000.png"][0].shape == Box(1.0, 2.0, 5.0, 9.0)  # ChestX-Det10
    assert {n.mask_kind for nodules in found.values() for n in nodules} == {"surrogate"}


def test_chestx_det_s_wrong_findings_come_at_once(tmp_path: Path) -> None:
    path = _json(
        tmp_path / "a.json",
        chestx_entry("a.png", ["Nodule"], polygons=[[[1, 1], [2, 2]]]),
        chestx_entry("b.png", ["Nodule"], polygons=[]),
        chestx_entry("c.png", ["Nodul"]),
        chestx_entry("d.png", ["Mass"], polygons=[[[1, 1], [2, "x"], [3, 3]]]),
        {"file_name": "e.png", "syms": ["Mass"], "boxes": [[5, 5, 1, 9]]},
        chestx_entry("f.png"),
        chestx_entry("f.png"),
        {"syms": [], "boxes": []},
    )
    with pytest.raises(DataError) as caught:
        read_chestx_det(path, ["Nodule", "Mass"])
    text = "\n".join(caught.value.problems)
    for wanted in (
        "a.png, finding 1 (Nodule): its polygon has 2 points; at least 3 are needed",
        "b.png: syms, boxes and polygons are not equally many (1, 1, 0)",
        "c.png, finding 1: 'Nodul' is none of ChestX-Det's 13 kinds",
        "d.png, finding 1 (Mass): its polygon is no list of [x, y]",
        "e.png, finding 1 (Mass): its box [5, 5, 1, 9] encloses nothing",
        "entry 7: f.png is there twice",
        "entry 8: no file_name",
    ):
        assert wanted in text
    assert len(caught.value.problems) == 7


@pytest.mark.parametrize(("text", "message"), [("[{", "no JSON"), ('{"a": 1}', "a list of")])
def test_what_is_no_chestx_det(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_chestx_det(tmp_path / "a.json", ["Nodule"])
