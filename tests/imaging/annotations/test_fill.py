from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from attnseg.imaging.annotations.fill import disc, fill, outline, paste
from tests.imaging.annotations.formats import ring

CORNERS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=3, max_size=9, unique=True
)


def _star(radii: list[int]) -> list[tuple[int, int]]:
    """A simple polygon: corners in order of their angle, around (50, 50)."""
    angles = np.linspace(0.0, 2.0 * np.pi, len(radii), endpoint=False)
    return [
        (round(50 + r * np.cos(a)), round(50 + r * np.sin(a)))
        for r, a in zip(radii, angles, strict=True)
    ]


def test_what_an_outline_encloses_leaves_the_outline_out() -> None:
    inside, corner = fill(ring(10, 20, 15, 24), with_outline=False)
    assert corner == (20, 10)
    assert inside.shape == (5, 6)
    assert inside[1:-1, 1:-1].all()
    assert inside.sum() == 3 * 4
    whole, _ = fill(ring(10, 20, 15, 24), with_outline=True)
    assert whole.all()


@given(st.lists(st.integers(4, 40), min_size=5, max_size=16))
def test_a_simple_polygon_is_filled_as_matplotlib_fills_it(radii: list[int]) -> None:
    points = _star(radii)
    inside, (top, left) = fill(points, with_outline=False)
    rows, columns = np.nonzero(inside)
    pixels = {(x + left, y + top) for y, x in zip(rows.tolist(), columns.tolist(), strict=True)}
    on_line = set(map(tuple, outline(points).tolist()))
    grid = [(x, y) for x in range(101) for y in range(101)]
    found = Outline([*points, points[0]], closed=True).contains_points(grid)
    wanted = {p for p, within in zip(grid, found, strict=True) if within}
    assert not pixels & on_line
    assert wanted - on_line <= pixels
    for x, y in pixels - wanted:  # a notch too narrow for the grid: shut in by the line's pixels
        assert {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & on_line


@given(CORNERS, st.integers(-30, 30), st.integers(-30, 30))
def test_filling_moves_with_the_outline_and_ignores_its_direction(
    points: list[tuple[int, int]], right: int, down: int
) -> None:
    inside, corner = fill(points, with_outline=True)
    moved, other = fill([(x + right, y + down) for x, y in points[::-1]], with_outline=True)
    assert other == (corner[0] + down, corner[1] + right)
    assert moved.shape == inside.shape
    # The line between two corners may round to other pixels backwards: one pixel at most.
    assert (moved != inside).sum() <= 2 * len(outline(points))


def test_an_outline_is_closed_and_8_connected() -> None:
    pixels = {tuple(p) for p in outline([(0, 0), (7, 3), (2, 9)]).tolist()}
    assert {(0, 0), (7, 3), (2, 9)} <= pixels
    for x, y in pixels:
        near = {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} - {(x, y)}
        assert len(near & pixels) >= 2


def test_a_disc_has_its_area_and_never_less_than_its_centre() -> None:
    made = disc((50.0, 40.0), (30.0, 30.0), (80, 100))
    assert made.sum() == pytest.approx(np.pi * 15**2, rel=0.02)
    rows, columns = np.nonzero(made)
    assert (rows.mean(), columns.mean()) == (40.0, 50.0)
    dot = disc((3.4, 2.6), (0.2, 0.2), (6, 6))
    assert dot.sum() == 1
    assert dot[3, 3]


def test_paste_cuts_what_sticks_out_and_says_so() -> None:
    into = np.zeros((5, 5), dtype=bool)
    part = np.ones((3, 3), dtype=bool)
    assert paste(into, part, (1, 1))
    assert into.sum() == 9
    assert not paste(into, part, (4, 4))
    assert into[4, 4]
    assert not paste(into, part, (9, 9))
