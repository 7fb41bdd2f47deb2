"""Rectangles in the pixel coordinates of an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A rectangle in an image's own pixel coordinates; it may reach beyond the image."""

    top: int
    left: int
    height: int
    width: int

    def grown(self, margin: int) -> Window:
        """The window with `margin` px more on every side."""
        return Window(
            self.top - margin, self.left - margin, self.height + 2 * margin, self.width + 2 * margin
        )

    def overlap(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """The part of an image of that shape that the window shows; empty if they do not meet."""
        rows = _within(self.top, self.height, shape[0])
        return rows, _within(self.left, self.width, shape[1])

    def content(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """(top, left, height, width) of the image's part, in the window's coordinates."""
        rows, columns = self.overlap(shape)
        return (
            rows.start - self.top,
            columns.start - self.left,
            rows.stop - rows.start,
            columns.stop - columns.start,
        )


def full_window(shape: tuple[int, ...], size: int) -> Window:
    """The square of side `size` with an image of that shape at its centre."""
    return Window(-((size - shape[0]) // 2), -((size - shape[1]) // 2), size, size)


def _within(start: int, length: int, end: int) -> slice:
    first = min(max(start, 0), end)
    return slice(first, max(min(start + length, end), first))
