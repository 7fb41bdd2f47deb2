"""Pulmonary vessels: one branching tree a lung, grown from the hilum to drawn end points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from attnseg.phantom.anatomy import Patient, hilum, in_lung
from attnseg.phantom.shapes import Array

END_POINTS = 120  # vessels that a lung is supplied by
MURRAY = 1.0 / 2.8  # radius ~ flow ** (1 / 2.8): Murray's law with the exponent seen in lungs


class Vessels(NamedTuple):
    """Straight pieces of vessel: ends (n, 3) as (z, y, x) in mm, radii (n,) at both."""

    start: Array
    end: Array
    start_radius: Array
    end_radius: Array


def pulmonary_vessels(patient: Patient, rng: np.random.Generator) -> Vessels:
    """Both lungs' trees; they may leave the lung, where painting must stop them."""
    pieces: list[tuple[Array, Array, float, float]] = []
    for side in (-1, 1):
        ends = _end_points(patient, side, rng)
        pieces += _grow(np.array(hilum(patient, side)), ends, patient.vessel, rng)
    start, end, first, last = zip(*pieces, strict=True)
    return Vessels(*(np.array(part, dtype=np.float32) for part in (start, end, first, last)))


def _end_points(patient: Patient, side: int, rng: np.random.Generator) -> Array:
    """(n, 3) points spread evenly over one lung by rejection."""
    low = np.array([min(patient.dome_z) - 60.0, -patient.cage_b, 0.0])
    high = np.array([patient.apex_z, patient.cage_b, patient.cage_a])
    points = rng.uniform(low, high, (8 * END_POINTS, 3))
    points[:, 2] *= side
    inside = in_lung(patient, points[:, 0], points[:, 1], points[:, 2])
    return points[inside][:END_POINTS]


def _grow(
    root: Array, ends: Array, finest: float, rng: np.random.Generator
) -> list[tuple[Array, Array, float, float]]:
    """Split the end points in two at every node, each half fed by a branch towards its middle."""
    pieces: list[tuple[Array, Array, float, float]] = []
    pending = [(root, ends)]
    while pending:
        node, group = pending.pop()
        count = len(group)
        radius = finest * count**MURRAY
        if count == 1:
            pieces.append((node, group[0], radius, 0.6 * radius))
            continue
        middle = group.sum(axis=0) / count
        along, cut, *wobble = rng.random(5)
        fork = node + (0.3 + 0.2 * along) * (middle - node) + 6.0 * (np.array(wobble) - 0.5)
        pieces.append((node, fork, radius, radius))
        offsets = group - middle
        farthest = offsets[np.square(offsets).sum(axis=1).argmax()]
        order = (offsets * farthest).sum(axis=1).argsort(kind="stable")
        half = max(1, int(count * (0.35 + 0.3 * cut)))
        pending += [(fork, group[order[:half]]), (fork, group[order[half:]])]
    return pieces
