"""What an evaluation found, lesion by lesion: gt_lesions.csv and candidates.csv.

`gt_lesions.csv` has a row for each lesion of the masks, `candidates.csv` one for each place where
the model suspects a lesion (`attnseg.metrics.lesions` says what that is); between them they hold
the FROC curve, of all lesions or of any group of them. Rows and columns are pixels of the measured
grid (height and width in cases.csv, padding included; content_top and content_left say where the
image begins on it), counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from attnseg.common.files import csv_text, write_text
from attnseg.evaluation.engine import EvaluatedCase
from attnseg.metrics.froc import MAX_FALSE_POSITIVES
from attnseg.metrics.lesions import NOT_FOUND, LesionMatch, equivalent_diameter
from attnseg.metrics.maps import REFERENCE_SIZE
from attnseg.reports.froc import CANDIDATES, LESIONS

_OF_A_LESION = (
    "case_id",
    "patient_id",
    "lesion",
    "row",
    "column",
    "n_pixels",
    "diameter_px",
    "diameter_mm",
    "score",
    "found",
)
"""Of gt_lesions.csv. Row and column: of the centre of mass. Diameter: of the circle of the same
area, px at 512 x 512 as in all metrics, mm where the spacing is known. Score: the highest of a
candidate that hits it, blank if none does. Found: whether the segmentation at the threshold does.
"""

_OF_A_CANDIDATE = (
    "case_id",
    "patient_id",
    "candidate",
    "row",
    "column",
    "n_pixels",
    "score",
    "segmented",
    "lesions",
)
"""Of candidates.csv, the highest score of a case first. Row and column: of its highest pixel.
Score: the probability there. Segmented: whether it is part of the segmentation at the threshold.
Lesions: the numbers of those it hits, blank for a false positive, of which a case keeps the
highest 100.
"""


class LesionTables:
    """Collects the rows of both tables; `add` is an `on_case` of `evaluate_batches`.

    Kept is text, some kB a case.
    """

    def __init__(self) -> None:
        self._lesions: dict[str, str] = {}
        self._candidates: dict[str, str] = {}

    def add(self, case: EvaluatedCase) -> None:
        """Add the rows of a case."""
        row = case.row
        which = (row["case_id"], row["patient_id"])
        spacing = (row["spacing_row_mm"], row["spacing_column_mm"])
        shape = (row["height"], row["width"])
        lesions = ([*which, *values] for values in _lesion_rows(case.match, shape, spacing))
        self._lesions[which[0]] = csv_text(_OF_A_LESION, lesions, header=False)
        candidates = ([*which, *values] for values in _candidate_rows(case.match))
        self._candidates[which[0]] = csv_text(_OF_A_CANDIDATE, candidates, header=False)

    def write(self, output_dir: Path) -> None:
        """Write both tables, each replaced as a whole, sorted by case id."""
        for name, columns, rows in (
            (LESIONS, _OF_A_LESION, self._lesions),
            (CANDIDATES, _OF_A_CANDIDATE, self._candidates),
        ):
            table = [csv_text(columns, []), *(rows[case_id] for case_id in sorted(rows))]
            write_text(output_dir / name, "".join(table))


def _lesion_rows(
    match: LesionMatch, shape: tuple[int, int], spacing: tuple[float | None, float | None]
) -> Iterable[list[Any]]:
    in_pixels = equivalent_diameter(match.n_pixels, REFERENCE_SIZE / np.array(shape))
    in_mm: Iterable[Any] = [None] * len(match.found)
    if None not in spacing:
        in_mm = equivalent_diameter(match.n_pixels, np.array(spacing, dtype=np.float64))
    columns = (match.centre, match.n_pixels, in_pixels, in_mm, match.best_score, match.found)
    for number, values in enumerate(zip(*columns, strict=True), start=1):
        (row, column), n_pixels, px, mm, score, found = values
        sizes = [n_pixels, round(px, 3), None if mm is None else round(mm, 3)]
        highest = None if score == NOT_FOUND else score
        yield [number, round(row, 2), round(column, 2), *sizes, highest, int(found)]


def _candidate_rows(match: LesionMatch) -> Iterable[list[Any]]:
    candidates = match.candidates
    n_wrong = 0
    for number, index in enumerate(np.argsort(-candidates.score, kind="stable"), start=1):
        hit = np.flatnonzero(match.hit[index]) + 1
        n_wrong += not len(hit)
        if not len(hit) and n_wrong > MAX_FALSE_POSITIVES:
            continue
        yield [
            number,
            *candidates.peak[index],
            candidates.n_pixels[index],
            candidates.score[index],
            int(candidates.at_threshold[index]),
            " ".join(map(str, hit)),
        ]
