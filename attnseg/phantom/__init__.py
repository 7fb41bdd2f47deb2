"""A procedural 3-D chest in HU: every patient is drawn from an integer key.

`anatomy` holds who a patient is and the surfaces of their organs, `vessels` and `nodules` grow
what is in the lungs, `paint` the brushes, `skeleton` and `volume` the CT.
"""

from __future__ import annotations

import numpy as np

from attnseg.phantom.anatomy import Patient, draw_patient
from attnseg.phantom.nodules import Nodule, count_nodules, draw_nodules, is_negative
from attnseg.phantom.vessels import pulmonary_vessels
from attnseg.phantom.volume import Phantom, build_phantom

__all__ = ["Nodule", "Patient", "Phantom", "draw_case", "generate_phantom", "is_negative"]

_ANATOMY, _VESSELS, _NODULES, _TEXTURE = 1, 2, 3, 4  # streams of a case's key


def draw_case(
    seed: int,
    index: int,
    *,
    negative_fraction: float,
    max_nodules: int,
    diameter_mm: tuple[float, float],
    contrast_hu: tuple[float, float],
) -> tuple[Patient, list[Nodule]]:
    """Who a case is and what nodules they have, without a volume.

    Args:
        seed, index: the key.
        negative_fraction: share of cases without nodules.
        max_nodules: the most a case may have.
        diameter_mm: range of diameters, log-uniform.
        contrast_hu: range of the nodules' HU above the lung around them, uniform.
    """
    patient = draw_patient(np.random.default_rng((seed, index, _ANATOMY)))
    if is_negative(seed, index, negative_fraction):
        return patient, []
    rng = np.random.default_rng((seed, index, _NODULES))
    count = count_nodules(rng, max_nodules)
    return patient, draw_nodules(patient, rng, count, diameter_mm, contrast_hu)


def generate_phantom(
    seed: int,
    index: int,
    *,
    size: int,
    negative_fraction: float,
    max_nodules: int,
    diameter_mm: tuple[float, float],
    contrast_hu: tuple[float, float],
) -> Phantom:
    """The CT of case (seed, index): a pure function of its arguments, see `draw_case`.

    The patient and their nodules do not depend on `size`, the voxels along z and x.
    """
    patient, nodules = draw_case(
        seed,
        index,
        negative_fraction=negative_fraction,
        max_nodules=max_nodules,
        diameter_mm=diameter_mm,
        contrast_hu=contrast_hu,
    )
    vessels = pulmonary_vessels(patient, np.random.default_rng((seed, index, _VESSELS)))
    texture = np.random.default_rng((seed, index, _TEXTURE))
    return build_phantom(patient, vessels, nodules, size, texture)
