"""LUNA16's annotations.csv: seriesuid, coordX, coordY, coordZ, diameter_mm.

Coordinates are of the patient, in mm, as ITK has them; three of four readers agreed on every
nodule, and the diameter is the mean of theirs.
Source: Setio et al., Medical Image Analysis 42, 2017; luna16.grand-challenge.org.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from attnseg.imaging.annotations.cells import read_cells, refuse_rows
from attnseg.imaging.annotations.nodule import Annotations, Ball, Nodule

_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")


def read_luna16(path: Path) -> dict[str, Annotations]:
    """The balls of every scan, by series UID.

    Raises:
        DataError: the file is missing, or lists every row that cannot be understood.
        ConfigError: a column is missing.
    """
    problems: list[str] = []
    nodules: dict[str, list[Nodule]] = defaultdict(list)
    for line, cells in read_cells(path, _COLUMNS, problems):
        series = cells.text("seriesuid")
        x, y, z = (cells.number(key) for key in _COLUMNS[1:4])
        ball = Ball((x, y, z), cells.positive("diameter_mm"))
        if cells.ok:
            nodules[series].append(Nodule(f"line {line}", ball))
    refuse_rows(path, problems)
    return {
        series: Annotations(tuple(found), series_uid=series) for series, found in nodules.items()
    }
