"""NODE21's metadata.csv: img_name, label, height, width, x, y; a row a box, or a clear image.

x and y are the box's left and top, in pixels of the image; label 1 is a nodule, label 0 an image
without one, whose other cells mean nothing.
Source: Sogancioglu et al., IEEE TMI 43(8), 2024; node21.grand-challenge.org, zenodo 5548363.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from attnseg.imaging.annotations.cells import read_cells, refuse_rows
from attnseg.imaging.annotations.nodule import Box, Nodule

_COLUMNS = ("img_name", "label", "height", "width", "x", "y")


def read_node21(path: Path) -> dict[str, tuple[Nodule, ...]]:
    """The nodules of each image, by its file name; none where the image is clear.

    Raises:
        DataError: the file is missing, or lists every row that cannot be understood.
        ConfigError: a column is missing.
    """
    problems: list[str] = []
    nodules: dict[str, list[Nodule]] = defaultdict(list)
    clear: set[str] = set()
    for line, cells in read_cells(path, _COLUMNS, problems):
        name, label = cells.text("img_name"), cells.number("label")
        if cells.ok and label not in (0.0, 1.0):
            cells.wrong(f"label is {label:g}; 1 is a nodule and 0 an image without one")
        if cells.ok and label == 0.0:
            clear.add(name)
            nodules.setdefault(name, [])
            continue
        left, top = cells.number("x"), cells.number("y")
        width, height = cells.positive("width"), cells.positive("height")
        if cells.ok:
            box = Box(left, top, left + width, top + height)
            nodules[name].append(Nodule(f"line {line}", box))
    for name in sorted(clear):
        if nodules[name]:
            problems.append(f"{path}: {name} has rows with label 0 and with label 1; keep one kind")
    refuse_rows(path, problems)
    return {name: tuple(found) for name, found in nodules.items()}
