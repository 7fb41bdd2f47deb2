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

from attnseg.data.case import Case, Source
from attnseg.data.tables import read_table

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
    """Pairs that correlate at `LOOK_ALIKE` or more: (r, case, case, of one patient), highest first."""
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
    """Cases whose height is not int(slices x slice spacing / pixel spacing): (case, is, formula)."""
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
