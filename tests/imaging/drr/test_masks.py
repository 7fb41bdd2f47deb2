"""Nodules by the DRR's own rays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.imaging.drr.geometry import build_geometry
from attnseg.imaging.drr.masks import (
    ProjectedNodules,
    describe_nodules,
    number_nodules,
    project_nodules,
)
from attnseg.imaging.drr.views import pixel_rays, project_view
from attnseg.imaging.drr.volume import Volume
from tests.imaging.drr.helpers import chest, projection, volume

SHAPE = (16, 20, 18)
FINE = ("projection.detector.pixel_mm=0.7", "projection.detector.size=null")


def _labels(seed: int, count: int = 3) -> Volume:
    rng = np.random.default_rng(seed)
    voxels = np.zeros(SHAPE, np.int32)
    for number in range(1, count + 1):
        corner = [int(rng.integers(1, side - 6)) for side in SHAPE]
        size = rng.integers(1, 5, 3)
        box = tuple(slice(c, c + int(s)) for c, s in zip(corner, size, strict=True))
        voxels[box][voxels[box] == 0] = number
    return volume(voxels, (1.5, 1.0, 1.0))


def _project(nodules: Volume, name: str, view: str, *overrides: str) -> ProjectedNodules:
    config = projection(name, f"projection.views=[{view}]", *overrides)
    geometry = build_geometry(config, config.views[0], nodules)
    return project_nodules(nodules, geometry, pixel_rays)


@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["parallel", "cone_beam"]),
    view=st.sampled_from(["PA", "left_lateral", "35", "{angle_deg:10,tilt_deg:20}"]),
)
@settings(max_examples=30, deadline=None)
def test_mask_thickness_and_labels_say_the_same(seed: int, name: str, view: str) -> None:
    nodules = _labels(seed)
    found = _project(nodules, name, view, *FINE)
    np.testing.assert_array_equal(found.mask > 0, found.thickness > 0.0)
    np.testing.assert_array_equal(found.mask > 0, found.labels > 0)
    seen = set(np.unique(found.labels)) - {0}
    assert seen <= set(np.unique(nodules.voxels))
    one = Volume((nodules.voxels > 0).astype(np.int32), nodules.origin, nodules.steps)
    union = _project(one, name, view, *FINE)
    np.testing.assert_allclose(union.thickness, found.thickness, atol=1e-3)


def test_along_an_axis_the_mask_is_the_maximum_and_thickness_the_count() -> None:
    nodules = _labels(4)
    found = _project(nodules, "lidc_drr", "AP")
    np.testing.assert_array_equal(found.mask, (nodules.voxels > 0).any(axis=1))
    np.testing.assert_allclose(found.thickness, (nodules.voxels > 0).sum(axis=1) * 1.0)


def test_where_nodules_overlap_the_thicker_one_is_named_and_thickness_counts_both() -> None:
    voxels = np.zeros(SHAPE, np.int32)
    voxels[4:9, 2:5, 4:9] = 1  # 3 mm thick
    voxels[6:12, 10:16, 6:12] = 2  # 6 mm, behind it
    found = _project(volume(voxels, (1.5, 1.0, 1.0)), "lidc_drr", "AP")
    assert found.labels[4, 4] == 1
    assert found.labels[7, 7] == 2
    assert found.thickness[7, 7] == pytest.approx(9.0)
    voxels[4:9, 2:8, 4:9] = 1  # as thick: the lower number
    found = _project(volume(voxels, (1.5, 1.0, 1.0)), "lidc_drr", "AP")
    assert found.labels[7, 7] == 1


def test_thickness_of_a_ball_is_its_chord() -> None:
    index = np.moveaxis(np.indices((60, 60, 60)), 0, -1) - 29.5
    ball = volume(((index**2).sum(-1) <= 25.0**2).astype(np.int32))
    config = projection("cone_beam", "projection.views=[25]")
    geometry = build_geometry(config, config.views[0], ball)
    found = project_nodules(ball, geometry, pixel_rays)
    row, column = np.rint(geometry.world_to_pixel((0.0, 0.0, 0.0))).astype(int)
    middle = found.thickness[row - 5 : row + 6, column - 5 : column + 6]
    start, direction = geometry.pixel_to_ray(*np.mgrid[row - 5 : row + 6, column - 5 : column + 6])
    nearest = -(start * direction).sum(-1)
    chord = 2.0 * np.sqrt(25.0**2 - ((start**2).sum(-1) - nearest**2))
    assert middle.mean() == pytest.approx(chord.mean(), rel=0.01)
    assert np.abs(middle / chord - 1.0).max() < 0.05  # whole voxels


def test_a_nodule_beside_the_detector_or_between_rays_is_told() -> None:
    voxels = np.zeros(SHAPE, np.int32)
    voxels[4, 3, 5] = 5
    voxels[8:12, 8:12, 8:12] = 7
    nodules = volume(voxels)
    beside = _project(nodules, "parallel", "PA", "projection.detector.size=[6,6]")
    assert beside.missed == (5,)
    coarse = ("projection.detector.pixel_mm=3.0", "projection.detector.size=[8,8]")
    between = _project(nodules, "parallel", "PA", *coarse)
    assert between.missed == (5,)
    assert 7 in between.labels


def test_more_rays_a_pixel_find_what_one_misses() -> None:
    hu, _ = chest(SHAPE)
    voxels = np.zeros(SHAPE, np.int32)
    voxels[4, 3, 5] = 5
    ct, nodules = volume(hu), volume(voxels)

    def seen(*overrides: str) -> Any:
        coarse = ("projection.detector.pixel_mm=3.0", "projection.detector.size=[8,8]")
        config = projection("parallel", *coarse, *overrides)
        return project_view(ct, nodules, config, config.views[0]).nodules

    assert seen().missed == (5,)
    found = seen("projection.rays_per_pixel=3")
    assert found.missed == ()
    assert (found.labels == 5).sum() == 1
    assert found.mask.sum() == 1
    assert found.thickness.max() == pytest.approx(1.0 / 9.0)


def test_nodules_are_told_apart_by_component_or_by_value() -> None:
    voxels = np.zeros((4, 4, 9), np.uint8)
    voxels[1, 1, 1] = voxels[2, 2, 2] = 3  # a corner touches: one
    voxels[1, 1, 5] = 3
    np.testing.assert_array_equal(np.unique(number_nodules(voxels, "components")), [0, 1, 2])
    np.testing.assert_array_equal(np.unique(number_nodules(voxels, "values")), [0, 3])


def test_a_nodules_row_traces_it_back() -> None:
    nodules = _labels(11, count=1)
    config = projection("parallel", *FINE)
    geometry = build_geometry(config, config.views[0], nodules)
    found = project_nodules(nodules, geometry, pixel_rays)
    (row,) = describe_nodules(nodules, geometry, found)
    index = np.argwhere(nodules.voxels == 1)
    np.testing.assert_allclose(
        row["centre_lps_mm"], nodules.to_world(index.mean(axis=0)), atol=1e-3
    )
    pixels = np.argwhere(found.labels == 1)
    np.testing.assert_allclose(row["centre_px"], pixels.mean(axis=0), atol=1.0)
    assert row["volume_mm3"] == pytest.approx(len(index) * 1.5)
    assert row["pixels"] == len(pixels)
    assert row["box_px"] == [*pixels.min(axis=0), *pixels.max(axis=0)]
