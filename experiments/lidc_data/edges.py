"""How grey levels rise across the outline of a lesion, and across a synthetic nodule's.

A mask is what any reader called nodule in any slice, projected; the DRR leaves out what is below
-500 HU. So the outline need not be where something is seen. Pixels are sorted by their distance to
it, and the mean profile of many lesions tells where the image rises, and how steeply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attnseg.commands.compose import compose_checked
from attnseg.config import SyntheticConfig, TrainConfig
from attnseg.data.record import Decoded
from attnseg.data.synthetic import LocationPrior, draw_nodules
from experiments.lidc_data.cases import Floats, Studied
from experiments.lidc_data.tables import Line

REACH = 8  # px to either side of the outline
DISTANCES = np.arange(-REACH, REACH) + 0.5
"""px from the outline: negative outside, positive inside."""

SMALLEST = 18.0  # px: below, hardly a pixel is that far inside
LARGEST = 45.0  # px: of synthetic ones
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


def _real(studied: Sequence[Studied]) -> Iterator[Floats]:
    for one in studied:
        image = (one.drr - one.drr.mean()) / one.drr.std()
        boxes = ndimage.find_objects(one.labels)
        for lesion in one.lesions:
            if lesion.diameter < SMALLEST:
                continue
            box = tuple(
                slice(max(side.start - REACH - 2, 0), side.stop + REACH + 2)
                for side in boxes[lesion.number - 1]
            )
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
