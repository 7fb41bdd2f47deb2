"""Duplicates, look-alikes, odd sizes, grey levels: what could leak or mislead."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from attnseg.common.tables import read_table
from attnseg.data.sources.base import Source
from attnseg.imaging.case import Case
from experiments.lidc_data.tables import Line

_THUMB = 48  # px: thumbnails that are compared
LOOK_ALIKE = 0.97
"""Correlation of two thumbnails from which they are reported."""


@dataclass(frozen=True)
class Raw:
    """What is kept of a case's images as they are in the files.

    Attributes:
        height, width: px.
        digest: of the DRR's pixels.
        thumbnail: standardised, flat.
        levels: smallest and largest value, mean, standard deviation.
        at_zero: share of pixels with the smallest value.
    """

    height: int
    width: int
    digest: str
    thumbnail: torch.Tensor
    levels: tuple[float, float, float, float]
    at_zero: float


def look_at(source: Source, case: Case) -> Raw:
    """Read a case's DRR at its own size."""
    drr = source.load(case).drr
    small = F.interpolate(
        torch.from_numpy(drr.astype(np.float32))[None, None], (_THUMB, _THUMB), mode="area"
    ).flatten()
    levels = (float(drr.min()), float(drr.max()), float(drr.mean()), float(drr.std()))
    return Raw(
        height=drr.shape[0],
        width=drr.shape[1],
        digest=hashlib.sha256(np.ascontiguousarray(drr).tobytes()).hexdigest(),
        thumbnail=(small - small.mean()) / small.std(unbiased=False).clamp(min=1e-6),
        levels=levels,
        at_zero=float((drr == drr.min()).mean()),
    )


def equal_images(cases: Sequence[Case], raws: Sequence[Raw]) -> list[list[str]]:
    """Groups of cases whose DRRs are the same to the byte."""
    groups: dict[str, list[str]] = defaultdict(list)
    for case, raw in zip(cases, raws, strict=True):
        groups[raw.digest].append(case.case_id)
    return [group for group in groups.values() if len(group) > 1]


def look_alikes(cases: Sequence[Case], raws: Sequence[Raw]) -> list[tuple[float, str, str, bool]]:
    """Pairs at `LOOK_ALIKE` or more, highest first: (r, case, case, whether of one patient)."""
    thumbs = torch.stack([raw.thumbnail for raw in raws])
    correlation = (thumbs @ thumbs.T / thumbs.shape[1]).triu(1)
    pairs = []
    for i, j in (correlation >= LOOK_ALIKE).nonzero().tolist():
        same = cases[i].patient_id == cases[j].patient_id
        pairs.append((float(correlation[i, j]), cases[i].case_id, cases[j].case_id, same))
    return sorted(pairs, reverse=True)


def repeated_patients(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Patients with more than one case."""
    found: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        found[case.patient_id].append(case.case_id)
    return {patient: ids for patient, ids in sorted(found.items()) if len(ids) > 1}


def odd_heights(
    cases: Sequence[Case], raws: Sequence[Raw], scans: Path
) -> list[tuple[str, int, int]]:
    """Cases off int(slices x slice spacing / pixel spacing): (case, height, formula)."""
    wanted = {}
    columns = ("drr_file", "n_slices", "slice_spacing_mm", "pixel_spacing_mm")
    for _, row in read_table(scans, columns):
        depth = int(row["n_slices"]) * float(row["slice_spacing_mm"])
        wanted[row["drr_file"]] = int(depth / float(row["pixel_spacing_mm"]))
    return [
        (case.case_id, raw.height, wanted[case.drr.name])
        for case, raw in zip(cases, raws, strict=True)
        if case.drr is not None and wanted.get(case.drr.name, raw.height) != raw.height
    ]


def defect_lines(cases: Sequence[Case], raws: Sequence[Raw], scans: Path | None) -> list[Line]:
    """All of it, as lines of results.csv; without scans.csv no heights are checked."""
    found: list[tuple[str, str, float]] = [
        ("DRRs equal to the byte", " = ".join(ids), len(ids)) for ids in equal_images(cases, raws)
    ]
    for r, first, second, same in look_alikes(cases, raws):
        kind = "of one patient" if same else "of two patients"
        found.append((f"look-alikes {kind}, r of {_THUMB} px thumbnails", f"{first} ~ {second}", r))
    for patient, ids in repeated_patients(cases).items():
        found.append(("cases of one patient", f"{patient}: {' '.join(ids)}", len(ids)))
    for case, height, formula in odd_heights(cases, raws, scans) if scans is not None else []:
        found.append(("height minus formula, px", case, height - formula))
    columns = {
        "height px": [float(raw.height) for raw in raws],
        "smallest grey": [raw.levels[0] for raw in raws],
        "largest grey": [raw.levels[1] for raw in raws],
        "mean grey": [raw.levels[2] for raw in raws],
        "sd of grey": [raw.levels[3] for raw in raws],
        "share of pixels at the smallest grey": [raw.at_zero for raw in raws],
    }
    for name, values in columns.items():
        for percent in (0, 5, 50, 95, 100):
            value = float(np.percentile(values, percent))
            found.append((f"{name}, percentile {percent}", "all", value))
    return [Line("defects", measure, of, float(v), len(cases)) for measure, of, v in found]
