"""Millimetres to pixels and back; views; what a sidecar keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.common.errors import DataError
from attnseg.config.drr import ViewConfig
from attnseg.imaging.drr.geometry import Geometry, build_geometry, view_axes
from tests.imaging.drr.helpers import projection, volume

ANGLES = st.floats(-180.0, 180.0)
TILTS = st.floats(-40.0, 40.0)
POINTS = st.lists(st.floats(-80.0, 80.0), min_size=3, max_size=3)
CT = volume(np.zeros((60, 50, 70), np.int16), (2.0, 1.0, 1.0), centre=(12.0, -7.0, -300.0))


def _geometry(name: str, angle: float, tilt: float = 0.0) -> Geometry:
    view = ViewConfig(angle_deg=angle, tilt_deg=tilt)
    return build_geometry(projection(name), view, CT)


@pytest.mark.parametrize("name", ["parallel", "cone_beam"])
@given(angle=ANGLES, tilt=TILTS, point=POINTS, along=st.floats(-50.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_every_point_of_a_pixels_ray_is_seen_in_that_pixel(
    name: str, angle: float, tilt: float, point: list[float], along: float
) -> None:
    geometry = _geometry(name, angle, tilt)
    world = CT.centre + np.array(point)
    pixel = geometry.world_to_pixel(world)
    start, direction = geometry.pixel_to_ray(*pixel)
    off = (world - start) - ((world - start) @ direction) * direction
    np.testing.assert_allclose(off, 0.0, atol=1e-6)
    np.testing.assert_allclose(geometry.world_to_pixel(world + along * direction), pixel, atol=1e-6)


@given(angle=ANGLES, tilt=TILTS)
@settings(max_examples=40, deadline=None)
def test_a_views_axes_are_orthogonal(angle: float, tilt: float) -> None:
    axes = np.stack(view_axes(ViewConfig(angle_deg=angle, tilt_deg=tilt)))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    ("view", "beam", "right"),
    [  # LPS: left, posterior, superior
        ("PA", (0, -1, 0), (1, 0, 0)),
        ("AP", (0, 1, 0), (1, 0, 0)),  # mirrored: the patient's left is on the right, too
        ("left_lateral", (1, 0, 0), (0, 1, 0)),  # the patient looks to the left
        ("right_lateral", (-1, 0, 0), (0, -1, 0)),
    ],
)
def test_named_views(view: str, beam: tuple[int, ...], right: tuple[int, ...]) -> None:
    found = view_axes(projection("parallel", f"projection.views=[{view}]").views[0])
    np.testing.assert_array_equal(found[0], beam)
    np.testing.assert_array_equal(found[1], right)
    np.testing.assert_array_equal(found[2], (0, 0, -1))  # head up


def test_a_tilt_points_the_beam_to_the_head() -> None:
    beam, _, down = view_axes(ViewConfig(tilt_deg=30.0))
    assert beam[2] == pytest.approx(0.5)
    assert down @ beam == pytest.approx(0.0)


def test_parallel_is_a_scale_of_one() -> None:
    geometry = _geometry("parallel", 0.0)
    one, other = geometry.world_to_pixel([CT.centre, CT.centre + np.array([10.0, 30.0, 20.0])])
    np.testing.assert_allclose((other - one) * geometry.spacing, (-20.0, 10.0))
    assert geometry.magnification == 1.0
    assert geometry.shape == (120, 70)  # rows of the CT's pixel side: 60 slices of 2 mm


def test_cone_magnifies_by_the_ratio_of_distances() -> None:
    geometry = _geometry("cone_beam", 0.0)
    assert geometry.magnification == pytest.approx(1800.0 / 1600.0)
    assert geometry.spacing == pytest.approx((0.84 / 1.125,) * 2)
    one, other = geometry.world_to_pixel([CT.centre, CT.centre + np.array([10.0, 0.0, 20.0])])
    np.testing.assert_allclose((other - one) * geometry.spacing, (-20.0, 10.0))
    np.testing.assert_allclose(geometry.source - CT.centre, (0.0, 1600.0, 0.0))  # PA: behind
    np.testing.assert_allclose(one, (255.5, 255.5))


@pytest.mark.parametrize("name", ["parallel", "cone_beam"])
def test_a_detector_without_a_size_sees_every_corner(name: str) -> None:
    config = projection(name, "projection.detector.size=null", "projection.views=[33]")
    geometry = build_geometry(config, config.views[0], CT)
    pixels = geometry.world_to_pixel(CT.corners())
    assert pixels.min() >= -0.5 - 1e-6
    assert (pixels <= np.array(geometry.shape) - 0.5 + 1e-6).all()


@pytest.mark.parametrize("name", ["parallel", "cone_beam", "lidc_drr"])
def test_a_record_in_json_is_the_geometry(name: str) -> None:
    config = projection(name)
    geometry = build_geometry(config, config.views[0], CT)
    again = Geometry.from_record(json.loads(json.dumps(geometry.record())))
    points = CT.corners()
    np.testing.assert_array_equal(again.world_to_pixel(points), geometry.world_to_pixel(points))
    assert again.spacing == geometry.spacing


def test_other_pixels_see_the_same_millimetres() -> None:
    geometry = _geometry("parallel", 20.0)
    finer = geometry.resized((240, geometry.shape[1] * 3))
    edge = (-0.5, -0.5)
    np.testing.assert_allclose(
        finer.pixel_to_ray(*edge)[0], geometry.pixel_to_ray(*edge)[0], atol=1e-9
    )
    end, fine_end = np.array(geometry.shape) - 0.5, np.array(finer.shape) - 0.5
    np.testing.assert_allclose(
        finer.pixel_to_ray(*fine_end)[0], geometry.pixel_to_ray(*end)[0], atol=1e-9
    )
    turned = geometry.upside_down()
    last = geometry.shape[0] - 1
    np.testing.assert_allclose(turned.pixel_to_ray(0, 5)[0], geometry.pixel_to_ray(last, 5)[0])


def test_a_source_inside_the_patient_is_refused() -> None:
    config = projection("cone_beam", "projection.source_isocentre_mm=20",
                        "projection.source_detector_mm=300")  # fmt: skip
    with pytest.raises(DataError, match="source would be inside the CT"):
        build_geometry(config, config.views[0], CT)
