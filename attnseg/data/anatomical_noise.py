"""Anatomical noise: the fine structure of one radiograph, added to another during training.

What hides a nodule is not the grain of the image but the vessels and ribs before and behind it,
the "anatomical noise" (Samei, Flynn & Eyler, Radiology 1999). Backgrounds are as few as the cases;
a radiograph with some of another's ribs and vessels in it is a background that has not been seen.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from attnseg.config import AugmentConfig
from attnseg.data.record import Decoded
from attnseg.data.synthetic import Overlay
from attnseg.data.window import full_window

_SIGMA = 1 / 25  # of the image's longer side: wider structures stay where they belong


def draw_anatomical_noise(
    config: AugmentConfig, rng: np.random.Generator, shape: tuple[int, ...], other: Decoded
) -> Overlay | None:
    """What is added to an image; None where nothing is.

    It happens with `config.probability`; the share is uniform from 0 to `config.anatomical_noise`,
    and the other image is mirrored with `config.flip`. Its lesions are left out.

    Args:
        config: of the augmentation.
        rng: drawn from a fixed number of times.
        shape: (H, W) of the image; the other one is centred on it.
        other: another case, of the same size.
    """
    happens, share, mirrored = rng.random(3)
    if happens >= config.probability:
        return None
    grey = (other.drr.astype(np.float32) - np.float32(other.mean[1])) / np.float32(other.std[1])
    size = max(grey.shape)
    fine = grey - ndimage.gaussian_filter(grey, _SIGMA * size, truncate=3.0)
    fine[other.mask > 0] = 0.0
    if mirrored < config.flip:
        fine = fine[:, ::-1]
    own, its = full_window(shape, size), full_window(fine.shape, size)
    profile = np.float32(share * config.anatomical_noise) * fine
    return Overlay(own.top - its.top, own.left - its.left, profile)
