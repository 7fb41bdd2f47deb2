"""What the study looks at: cases at the model's size, their lesions, the readers' annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attnseg.common.tables import read_table
from attnseg.data.sources.base import Source
from attnseg.imaging.case import Case
from attnseg.imaging.resize import fit_images
from attnseg.metrics.lesions import EIGHT
from experiments.lidc_data.lungs import lung_fields

Floats = npt.NDArray[np.float64]
RATINGS = ("subtlety", "malignancy", "texture")


@dataclass
class Lesion:
    """One 8-connected component of a mask, at the model's size.

    Attributes:
        number: its label in the case.
        n_pixels: its area.
        centre: (row, column) in pixels.
        diameter: of the disc of equal area, in pixels; `diameter_mm` in mm (NaN where unknown).
        in_lung: share of its pixels inside the lung fields.
        ratings: the mean of the annotations inside it, by name; empty where there is none.
        values: what is measured of it, by name.
    """

    number: int
    n_pixels: int
    centre: tuple[float, float]
    diameter: float
    diameter_mm: float
    in_lung: float
    ratings: dict[str, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)


@dataclass
class Studied:
    """A case as the model sees it, before padding.

    Attributes:
        case: which one.
        drr: (H, W) float32, grey levels 0-255; the longer side is the model's size.
        mask: (H, W) bool.
        labels: (H, W) int32, the lesions.
        lungs: (H, W) bool, see `lung_fields`.
        spacing: mm per pixel, NaN where unknown.
        lesions: of the mask, in the order of their labels.
    """

    case: Case
    drr: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int32]
    lungs: npt.NDArray[np.bool_]
    spacing: float
    lesions: list[Lesion]


def study_case(source: Source, case: Case, size: int) -> Studied:
    """Decode a case at the model's size and find its lung fields and lesions."""
    images = fit_images(source.load(case), size)
    drr = images.drr.astype(np.float32)
    if not np.issubdtype(images.drr.dtype, np.integer) or images.drr.dtype.itemsize > 1:
        drr = (drr - drr.min()) * (255.0 / max(float(np.ptp(drr)), 1e-6))
    mask = images.mask > 0
    labels, count = ndimage.label(mask, structure=EIGHT)
    lungs = lung_fields(drr)
    spacing = float(images.spacing[0]) if images.spacing is not None else float("nan")
    lesions = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(labels == number)
        diameter = 2 * float(np.sqrt(len(rows) / np.pi))
        lesions.append(
            Lesion(
                number=number,
                n_pixels=len(rows),
                centre=(float(rows.mean()), float(columns.mean())),
                diameter=diameter,
                diameter_mm=diameter * spacing,
                in_lung=float(lungs[rows, columns].mean()),
            )
        )
    return Studied(case, drr, mask, labels, lungs, spacing, lesions)


def read_annotations(folder: Path) -> dict[str, list[dict[str, str]]]:
    """The readers' annotations by DRR file name, from scans.csv and annotations.csv of LIDC."""
    scans = {
        row["scan_id"]: row["drr_file"]
        for _, row in read_table(folder / "scans.csv", ("drr_file", "scan_id"))
    }
    found: dict[str, list[dict[str, str]]] = {name: [] for name in scans.values()}
    columns = ("scan_id", "x_px", "z_mm", *RATINGS)
    for _, row in read_table(folder / "annotations.csv", columns):
        if row["scan_id"] in scans:
            found[scans[row["scan_id"]]].append(dict(row))
    return found


@dataclass(frozen=True)
class Match:
    """How a scan's annotations lie on its mask, once the unknown z of the top row is fitted.

    Attributes:
        farthest_px: the largest distance of an annotation's centre from the mask.
        n_annotations: of the scan.
    """

    farthest_px: float
    n_annotations: int


def match_annotations(studied: Studied, annotations: Sequence[Mapping[str, str]]) -> Match:
    """Give every lesion the mean ratings of the annotations that project into (or nearest) it.

    An annotation's column is known, its row only up to the z of the image's top: the one offset
    of the scan that brings the annotations onto the mask, and every lesion near an annotation.
    """
    if not annotations or not studied.lesions:
        return Match(float("nan"), len(annotations))
    scale = studied.mask.shape[1] / 512  # the CT's columns are the image's
    x = np.array([float(row["x_px"]) for row in annotations]) * scale
    z = np.array([float(row["z_mm"]) for row in annotations]) / studied.spacing
    centres = np.array([lesion.centre for lesion in studied.lesions])
    distance, nearest = ndimage.distance_transform_edt(~studied.mask, return_indices=True)
    height, width = studied.mask.shape
    columns = np.rint(x).astype(int).clip(0, width - 1)

    def place(offset: float) -> tuple[float, npt.NDArray[np.int64], Floats]:
        rows = np.rint(offset - z).astype(int)
        outside = (rows < 0) | (rows >= height)
        rows = rows.clip(0, height - 1)
        off = np.where(outside, 50.0, distance[rows, columns])
        apart = np.hypot(centres[:, :1] - (offset - z), centres[:, 1:] - x).min(1)
        return float(np.minimum(off, 20).mean() + np.minimum(apart, 20).mean()), rows, off

    offsets = np.unique(np.round(centres[:, :1] + z, 1))
    _, rows, off = min((place(float(offset)) for offset in offsets), key=lambda found: found[0])
    owner = studied.labels[nearest[0][rows, columns], nearest[1][rows, columns]]
    for lesion in studied.lesions:
        mine = [
            row for row, number in zip(annotations, owner, strict=True) if number == lesion.number
        ]
        if mine:
            lesion.ratings = {
                name: float(np.mean([float(r[name]) for r in mine])) for name in RATINGS
            }
            lesion.ratings["n_annotations"] = float(len(mine))
    return Match(float(off.max()), len(annotations))


def table_row(studied: Studied, lesion: Lesion) -> dict[str, Any]:
    """One line of the table of lesions."""
    return {
        "case": studied.case.case_id,
        "n_pixels": lesion.n_pixels,
        "row": round(lesion.centre[0], 1),
        "column": round(lesion.centre[1], 1),
        "diameter_px": round(lesion.diameter, 2),
        "diameter_mm": round(lesion.diameter_mm, 2),
        "in_lung": round(lesion.in_lung, 3),
        **{name: round(value, 2) for name, value in lesion.ratings.items()},
        **{name: round(value, 4) for name, value in lesion.values.items()},
    }
