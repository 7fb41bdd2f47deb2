"""The table beside the shared DRRs: a row a reader's annotation, as a ball in the CT.

Columns scan_id, nodule_id, x_px, y_px (pixels of the CT slice), z_mm, max_diam_mm, and
optionally subtlety, malignancy. Which reader made a row is not told.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from attnseg.imaging.annotations.cells import read_cells, refuse_rows, repeated
from attnseg.imaging.annotations.nodule import Annotations, Ball, Nodule

_COLUMNS = ("annotation_id", "scan_id", "x_px", "y_px", "z_mm", "max_diam_mm")


def read_lidc_table(path: Path) -> dict[str, Annotations]:
    """The balls of every scan, by scan_id.

    Raises:
        DataError: the file is missing, or lists every row that cannot be understood.
        ConfigError: a column is missing.
    """
    problems: list[str] = []
    rows = read_cells(path, _COLUMNS, problems)
    names = [cells.text("annotation_id") for _, cells in rows]
    problems += repeated(names, lambda place: f"{path}, line {rows[place][0]}")
    nodules: dict[str, list[Nodule]] = defaultdict(list)
    for (_, cells), name in zip(rows, names, strict=True):
        scan = cells.text("scan_id")
        x, y = (cells.number(key, least=0.0) for key in ("x_px", "y_px"))
        ball = Ball((x, y, cells.number("z_mm")), cells.positive("max_diam_mm"), in_pixels=True)
        subtlety, malignancy = cells.rating("subtlety"), cells.rating("malignancy")
        if cells.ok:
            nodules[scan].append(Nodule(name, ball, None, subtlety, malignancy))
    refuse_rows(path, problems)
    return {scan: Annotations(tuple(found)) for scan, found in nodules.items()}
