"""Lesions of a predicted mask: where, how large, how sure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attnseg.common.connectivity import EIGHT
from attnseg.imaging.case import Spacing

Image = npt.NDArray[np.float32]

COLUMNS = (
    "case",
    "lesion",
    "row_px",
    "column_px",
    "row_mm",
    "column_mm",
    "area_px",
    "area_mm2",
    "diameter_px",
    "diameter_mm",
    "score",
    "mean_probability",
    "mean_attention",
    "uncertainty_std",
    "uncertainty_entropy",
    "box_top_px",
    "box_left_px",
    "box_height_px",
    "box_width_px",
    "pathways",
)
"""Of lesions.csv, a row a lesion.

Pixels count from 0 at the centre of the top left one; mm are from there, too, down and to the
right. Diameter: of the circle of the same area. Score: the highest probability in the lesion.
Uncertainty: mean over the lesion. Blank where unknown.
"""


@dataclass(frozen=True)
class Lesion:
    """One 8-connected component of the predicted mask; see `COLUMNS` for units."""

    number: int
    row_px: float
    column_px: float
    area_px: int
    score: float
    mean_probability: float
    mean_attention: float | None
    uncertainty_std: float | None
    uncertainty_entropy: float | None
    box: tuple[int, int, int, int]  # top, left, height, width
    spacing: Spacing | None = None

    def record(self) -> dict[str, Any]:
        """Its columns but `case` and `pathways`, in plain types."""
        row_mm = column_mm = area_mm2 = diameter_mm = None
        if self.spacing is not None:
            row_mm, column_mm = self.row_px * self.spacing[0], self.column_px * self.spacing[1]
            area_mm2 = self.area_px * self.spacing[0] * self.spacing[1]
            diameter_mm = math.sqrt(4 / math.pi * area_mm2)
        top, left, height, width = self.box
        values = {
            "lesion": self.number,
            "row_px": self.row_px,
            "column_px": self.column_px,
            "row_mm": row_mm,
            "column_mm": column_mm,
            "area_px": self.area_px,
            "area_mm2": area_mm2,
            "diameter_px": math.sqrt(4 / math.pi * self.area_px),
            "diameter_mm": diameter_mm,
            "score": self.score,
            "mean_probability": self.mean_probability,
            "mean_attention": self.mean_attention,
            "uncertainty_std": self.uncertainty_std,
            "uncertainty_entropy": self.uncertainty_entropy,
            "box_top_px": top,
            "box_left_px": left,
            "box_height_px": height,
            "box_width_px": width,
        }
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}


def find_lesions(
    probability: Image,
    threshold: float,
    *,
    attention: Image | None = None,
    std: Image | None = None,
    entropy: Image | None = None,
    spacing: Spacing | None = None,
    min_px: int = 1,
) -> tuple[npt.NDArray[np.uint8], list[Lesion]]:
    """The mask and its lesions, the highest score first; all images (H, W) on one grid.

    Args:
        probability: in [0, 1]; a pixel is predicted where it is strictly above the threshold.
        threshold: in [0, 1].
        attention: in [0, 1], None where the model has none.
        std, entropy: uncertainty maps, None of a single pass.
        spacing: mm per pixel (row, column).
        min_px: smaller components are left out of the mask, too.

    Returns:
        (H, W) uint8 0/1, and the lesions of exactly that mask.
    """
    labels, count = ndimage.label(probability > np.float32(threshold), structure=EIGHT)
    found: list[tuple[float, int, Lesion]] = []
    mask = np.zeros(probability.shape, dtype=np.uint8)
    for label, box in enumerate(ndimage.find_objects(labels, count), start=1):
        inside = labels[box] == label
        area = int(inside.sum())
        if area < min_px:
            continue
        mask[box][inside] = 1
        rows, columns = np.nonzero(inside)
        top, left = box[0].start, box[1].start
        values = probability[box][inside]
        lesion = Lesion(
            number=0,
            row_px=float(rows.mean() + top),
            column_px=float(columns.mean() + left),
            area_px=area,
            score=float(values.max()),
            mean_probability=float(values.mean()),
            mean_attention=_mean(attention, box, inside),
            uncertainty_std=_mean(std, box, inside),
            uncertainty_entropy=_mean(entropy, box, inside),
            box=(top, left, box[0].stop - top, box[1].stop - left),
            spacing=spacing,
        )
        found.append((-lesion.score, label, lesion))
    found.sort(key=lambda entry: entry[:2])
    lesions = [replace(lesion, number=n) for n, (_, _, lesion) in enumerate(found, start=1)]
    return mask, lesions


def top_score(lesions: Iterable[dict[str, Any]]) -> float:
    """The highest score of some lesions' records, 0 of none."""
    return max((float(lesion["score"]) for lesion in lesions), default=0.0)


def _mean(image: Image | None, box: Any, inside: npt.NDArray[np.bool_]) -> float | None:
    return None if image is None else float(image[box][inside].mean())
