"""How far a nodule stands out of what is around it, and how often chance stands out as far.

The measure is a matched filter that knows the lesion's size and shape: the mean grey level in
the lesion minus that in a ring around it, of which a fitted plane (the slope of ribs and chest
wall) is taken out first. The same filter is laid on random places of the same lungs: what it
finds there is the anatomical noise that a nodule has to beat.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from experiments.lidc_data.cases import Floats, Lesion, Studied

N_PLACES = 200
"""Random places that each lesion is compared with."""

SHIFTS = (-24, -16, -12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12, 16, 24)
"""px by which the mask is moved off its lesion in the test of its registration."""

_GAP = 2  # px between a lesion and its ring: the blur of its edge
_NEAR = 80.0  # px: how far from a lesion outside the lungs its random places may be


class RingFilter:
    """Mean inside a lesion's shape minus the ring's, at any place of its image.

    The ring is as wide as the lesion's radius, at least 4 px. Pixels that would fall off the
    image are those of its edge.
    """

    def __init__(self, studied: Studied, lesion: Lesion) -> None:
        self._drr = studied.drr
        width = max(4, round(lesion.diameter / 2))
        pad = width + _GAP + 1
        shape = studied.labels == lesion.number
        box = ndimage.find_objects(shape.astype(np.int8))[0]
        inside = np.pad(shape[box], pad)
        distance = ndimage.distance_transform_edt(~inside)
        ring = (distance > _GAP) & (distance <= _GAP + width)
        middle = np.argwhere(inside).mean(0)
        self._inside = np.argwhere(inside) - middle
        self._ring = np.argwhere(ring) - middle
        self._basis = np.column_stack([np.ones(len(self._ring)), self._ring])
        self._fit = np.linalg.pinv(self._basis)

    def __call__(self, places: Floats) -> tuple[Floats, Floats]:
        """Contrast in grey levels, and contrast-to-noise, at n places (n, 2): two of (n,)."""
        ring = self._values(places, self._ring)
        plane = ring @ self._fit.T
        contrast = self._values(places, self._inside).mean(1) - plane[:, 0]
        noise = (ring - plane @ self._basis.T).std(1)
        return contrast, contrast / (noise + 1.0)  # a grey level of digitisation

    def _values(self, places: Floats, offsets: Floats) -> Floats:
        height, width = self._drr.shape
        at = np.rint(places[:, None] + offsets[None]).astype(np.intp)
        rows, columns = at[..., 0].clip(0, height - 1), at[..., 1].clip(0, width - 1)
        values: Floats = self._drr[rows, columns].astype(np.float64)
        return values


def measure_visibility(studied: Studied, seed: int) -> None:
    """Fill the `values` of every lesion of a case.

    - `contrast` (grey levels of 255), `cnr`: of the ring filter at the lesion.
    - `chance_contrast`, `chance_sd`: mean and standard deviation of it at random places.
    - `beats`: share of those places with a lower contrast (ties count half); chance is 0.5, and
      the mean over lesions is the area under the ROC curve of the filter.
    - `beats_blob`: the same with the blob detector (Laplacian of Gaussian at the known scale).
    - `blobs_above`: local maxima of that detector, in the lungs and off every lesion, that are
      above the lesion's own: false positives before it is found.
    - `shift_y_<n>`, `shift_x_<n>`: CNR with the mask moved by n px.

    Random places are in the lung fields, for a lesion outside them within 80 px of it outside
    them too, and never within 4 px of a lesion.
    """
    free = ~ndimage.binary_dilation(studied.mask, iterations=4)
    blobs: dict[float, npt.NDArray[np.float32]] = {}
    for lesion in studied.lesions:
        places = _random_places(studied, lesion, free, seed)
        ring = RingFilter(studied, lesion)
        centre = np.array([lesion.centre])
        contrast, cnr = (float(value[0]) for value in ring(centre))
        lesion.values |= {"contrast": contrast, "cnr": cnr}
        for axis, name in enumerate("yx"):
            step = np.zeros((len(SHIFTS), 2))
            step[:, axis] = SHIFTS
            at = ring(centre + step)[1]
            lesion.values |= {
                f"shift_{name}_{n}": float(v) for n, v in zip(SHIFTS, at, strict=True)
            }
        if not len(places):
            continue
        chance = ring(places)[0]
        sigma = 2.0 ** (round(2 * np.log2(lesion.diameter / np.sqrt(8))) / 2)  # half octaves
        if sigma not in blobs:
            blobs[sigma] = -(sigma**2) * ndimage.gaussian_laplace(studied.drr, sigma)
        lesion.values |= {
            "chance_contrast": float(chance.mean()),
            "chance_sd": float(chance.std()),
            "beats": _share_below(chance, contrast),
            **_blob_values(studied, lesion, blobs[sigma], sigma, free, places),
        }


def _blob_values(
    studied: Studied,
    lesion: Lesion,
    response: npt.NDArray[np.float32],
    sigma: float,
    free: npt.NDArray[np.bool_],
    places: Floats,
) -> dict[str, float]:
    radius = max(1, round(np.sqrt(2) * sigma))
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disc = np.argwhere(rows**2 + columns**2 <= radius**2) - radius

    def highest(at: Floats) -> Floats:
        near = np.rint(at[:, None] + disc[None]).astype(np.intp)
        limits = np.array(response.shape) - 1
        near = near.clip(0, limits)
        values: Floats = response[near[..., 0], near[..., 1]].max(1).astype(np.float64)
        return values

    score = float(highest(np.array([lesion.centre]))[0])
    peaks = response == ndimage.maximum_filter(response, size=2 * radius + 1)
    above = (
        peaks & free & studied.lungs & (response > response[studied.labels == lesion.number].max())
    )
    return {
        "beats_blob": _share_below(highest(places), score),
        "blobs_above": float(above.sum()),
    }


def _random_places(
    studied: Studied, lesion: Lesion, free: npt.NDArray[np.bool_], seed: int
) -> Floats:
    """(n, 2) rows and columns; fewer where there is less room, none where there is none."""
    if lesion.in_lung >= 0.5:
        allowed = studied.lungs & free
    else:
        rows, columns = np.ogrid[: free.shape[0], : free.shape[1]]
        apart = np.hypot(rows - lesion.centre[0], columns - lesion.centre[1])
        allowed = free & ~studied.lungs & (apart <= _NEAR) & (studied.drr > 0)
    candidates = np.argwhere(allowed)
    key = hashlib.sha256(f"{seed}:{studied.case.case_id}:{lesion.number}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
    chosen = rng.choice(len(candidates), min(N_PLACES, len(candidates)), replace=False)
    return candidates[chosen].astype(np.float64)


def _share_below(chance: Floats, value: float) -> float:
    return float((chance < value).mean() + 0.5 * (chance == value).mean())
