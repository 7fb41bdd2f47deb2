"""What synthetic nodules should look like: edges, contrast by brightness, and shape of real ones.

A mask is what any reader called nodule in any slice, projected; the DRR leaves out what is below
-500 HU. So the outline need not be where something is seen. Pixels are sorted by their distance to
it, and the mean profile of many lesions tells where the image rises, and how steeply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attnseg.config import SyntheticConfig, TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.data.record import Decoded
from attnseg.data.synthetic import LocationPrior, draw_nodules
from experiments.lidc_data.cases import Floats, Lesion, Studied
from experiments.lidc_data.tables import Line

REACH = 8  # px to either side of the outline
DISTANCES = np.arange(-REACH, REACH) + 0.5
"""px from the outline: negative outside, positive inside."""

SMALLEST = 18.0  # px: below, hardly a pixel is that far inside
LARGEST = 45.0  # px: of synthetic ones
LEAST_CONTRAST = 12.0  # px
N_SYNTHETIC = 400

SYNTHETIC = {
    "synthetic, solid": SyntheticConfig(),
    "synthetic, as lidc_drr draws them": compose_checked(
        "train", ["experiment=lidc_drr", "data.root=."], TrainConfig
    ).data.synthetic,
}


def edge_profile(image: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_]) -> Floats:
    """Mean grey level at each of DISTANCES from a lesion's outline; NaN where no pixel is."""
    signed = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    signed = signed - 0.5 * np.sign(signed)
    place = np.floor(signed).astype(int) + REACH
    near = (place >= 0) & (place < 2 * REACH)
    counts = np.bincount(place[near], minlength=2 * REACH)
    sums = np.bincount(place[near], weights=image[near], minlength=2 * REACH)
    with np.errstate(invalid="ignore"):
        profile: Floats = sums / counts
    return profile


def mean_profiles(studied: Sequence[Studied]) -> dict[str, tuple[Floats, int]]:
    """Profile in standard deviations of the image, 0 at the far end, and of how many lesions."""
    profiles = {"real": list(_real(studied))}
    profiles |= {name: list(_synthetic(config)) for name, config in SYNTHETIC.items()}
    return {name: (_mean(found), len(found)) for name, found in profiles.items() if found}


def edge_lines(profiles: Mapping[str, tuple[Floats, int]]) -> list[Line]:
    """The profiles, and what share of their rise inside the outline happens close to it."""
    lines = []
    for name, (profile, count) in profiles.items():
        lines += [
            Line("edges", f"grey level {distance:+g} px inside the outline, sd", name, value, count)
            for distance, value in zip(DISTANCES, profile, strict=True)
        ]
        for depth in (1, 3, 5):
            foot = profile[REACH - 1]  # right outside
            share = (profile[REACH + depth] - foot) / (profile[-1] - foot)
            measure = f"share of the rise within {depth} px of the outline"
            lines.append(Line("edges", measure, name, float(share), count))
    return lines


def appearance_lines(studied: Sequence[Studied]) -> list[Line]:
    """Contrast a px of diameter by the grey level around a lesion, and the axes' ratio.

    Contrast is that of the core (the inner 55 % of the depth) to a ring of 6 px, in standard
    deviations of the image; the axes are those of the ellipse with the mask's second moments.
    """
    rows = []
    for one in studied:
        image = _standardised(one)
        for lesion, box in _boxes(one, LEAST_CONTRAST, 16):
            found = _contrast(image[box], one.labels[box], lesion.number)
            rows.append((*found, lesion.diameter))
    if not rows:
        return []
    contrast, around, ratio, diameter = np.array(rows).T
    lines = []
    for quarter, (low, high) in enumerate(pairwise(np.quantile(around, [0, 0.25, 0.5, 0.75, 1]))):
        chosen = (around >= low) & (around <= high)
        lines += [
            Line("appearance", measure, f"quarter {quarter + 1} by grey level", value, chosen.sum())
            for measure, value in (
                ("contrast a px of diameter, sd", float((contrast / diameter)[chosen].mean())),
                ("grey level around, sd", float(around[chosen].mean())),
            )
        ]
    for share in (10, 50, 90):
        measure = f"ratio of the axes, percentile {share}"
        lines.append(Line("appearance", measure, "all", np.percentile(ratio, share), len(rows)))
    return lines


def _contrast(
    image: npt.NDArray[np.float32], labels: npt.NDArray[np.int32], number: int
) -> tuple[float, float, float]:
    """Contrast, grey level around, ratio of the axes."""
    inside = labels == number
    depth = ndimage.distance_transform_edt(inside)
    away = ndimage.distance_transform_edt(~inside)
    ring = image[(away > 0) & (away < 6) & (labels == 0)].mean()
    least, most = np.sqrt(np.linalg.eigvalsh(np.cov(np.nonzero(inside))))
    return float(image[depth > 0.45 * depth.max()].mean() - ring), float(ring), float(least / most)


def _standardised(one: Studied) -> npt.NDArray[np.float32]:
    image: npt.NDArray[np.float32] = (one.drr - one.drr.mean()) / one.drr.std()
    return image


def _boxes(
    one: Studied, smallest: float, margin: int
) -> Iterator[tuple[Lesion, tuple[slice, ...]]]:
    """The lesions of at least a diameter, each with its surroundings."""
    boxes = ndimage.find_objects(one.labels)
    for lesion in one.lesions:
        if lesion.diameter >= smallest:
            sides = boxes[lesion.number - 1]
            yield lesion, tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in sides)


def _real(studied: Sequence[Studied]) -> Iterator[Floats]:
    for one in studied:
        image = _standardised(one)
        for lesion, box in _boxes(one, SMALLEST, REACH + 2):
            labels = one.labels[box]
            if not ((labels > 0) & (labels != lesion.number)).any():
                yield edge_profile(image[box], labels == lesion.number)


def _synthetic(config: SyntheticConfig) -> Iterator[Floats]:
    side = 128
    nothing, grey = np.zeros((side, side), np.uint8), np.zeros((side, side), np.float32)
    empty = Decoded(grey, grey, nothing, (0.0, 0.0), (1.0, 1.0), 0, None)
    prior = LocationPrior([], 512)
    config = config.model_copy(
        update={"per_image": 1.0, "diameter_px": (SMALLEST, LARGEST), "easier": 1.0}
    )
    made = 0
    for seed in range(10 * N_SYNTHETIC):
        for nodule in draw_nodules(config, prior, np.random.default_rng(seed), empty, 512, 0):
            image, mask = grey.copy(), nothing.copy()
            corner = (nodule.top - side // 4, nodule.left - side // 4)
            nodule.brighten(image, corner)
            nodule.mark(mask, corner)
            yield edge_profile(image, mask > 0)
            made += 1
        if made >= N_SYNTHETIC:
            return


def _mean(profiles: Sequence[Floats]) -> Floats:
    """Each less its own level at the far end; the centre of small ones is missing."""
    stacked = np.array(profiles)
    mean: Floats = np.nanmean(stacked - np.nanmean(stacked[:, :3], axis=1, keepdims=True), axis=0)
    return mean
