"""The projector against what is known exactly: spheres, cubes, and the laws of integrals."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.imaging.drr.geometry import Geometry, build_geometry
from attnseg.imaging.drr.integrals import Field, line_integrals
from attnseg.imaging.drr.views import pixel_rays
from attnseg.imaging.drr.volume import Volume
from tests.imaging.drr.helpers import projection, volume

SPHERE, RADIUS = np.array([4.0, -3.0, 50.0]), 30.0
CUBE, HALF = np.array([0.0, 10.0, -20.0]), 20.0
VIEWS = ["PA", "left_lateral", "30", "{angle_deg:20,tilt_deg:15}", "45"]


def _geometry(ct: Volume, view: str, *overrides: str, beam: str = "cone_beam") -> Geometry:
    config = projection(beam, f"projection.views=[{view}]", *overrides)
    return build_geometry(config, config.views[0], ct)


def _project(ct: Volume, geometry: Geometry, sampling: Any = "bilinear", mb: int = 32) -> Any:
    everything = (slice(0, geometry.shape[0]), slice(0, geometry.shape[1]))
    rays = pixel_rays(ct, geometry, everything)
    path = line_integrals(Field(torch.from_numpy(ct.voxels)), rays, sampling, mb)
    return path.numpy().reshape(geometry.shape)


def _covered(inside: Any, shape: tuple[int, int, int], spacing: Any, centre: Any) -> Volume:
    """Voxels as the share of them that is inside a shape, by 4 x 4 x 4 points each."""
    placed = volume(np.zeros(shape, np.float32), spacing, centre)
    index = np.moveaxis(np.indices(shape), 0, -1).astype(np.float64)
    offsets = (np.arange(4) + 0.5) / 4 - 0.5
    for offset in product(offsets, offsets, offsets):
        placed.voxels[:] += inside(placed.to_world(index + np.array(offset)))
    placed.voxels[:] /= 64.0
    return placed


@lru_cache(maxsize=1)
def _sphere() -> Volume:
    return _covered(
        lambda p: ((p - SPHERE) ** 2).sum(-1) <= RADIUS**2, (66, 66, 66), (1.0, 1.0, 1.0), SPHERE
    )


@lru_cache(maxsize=1)
def _cube() -> Volume:
    return _covered(
        lambda p: (np.abs(p - CUBE) <= HALF).all(-1), (50, 50, 50), (1.0, 1.0, 1.0), CUBE
    )


def _rays(geometry: Geometry) -> tuple[Any, Any]:
    rows, columns = np.indices(geometry.shape)
    return geometry.pixel_to_ray(rows, columns)


SMALL = ("projection.detector.size=[96,96]", "projection.detector.pixel_mm=1.3",
         "projection.source_detector_mm=600", "projection.source_isocentre_mm=450")  # fmt: skip


@pytest.mark.parametrize("beam", ["cone_beam", "parallel"])
@pytest.mark.parametrize("view", VIEWS)
def test_path_through_a_sphere_is_its_chord(beam: str, view: str) -> None:
    sphere, centre, radius = _sphere(), SPHERE, RADIUS
    overrides = SMALL if beam == "cone_beam" else SMALL[:2]
    geometry = _geometry(sphere, view, *overrides, beam=beam)
    path = _project(sphere, geometry)
    start, direction = _rays(geometry)
    nearest = ((centre - start) * direction).sum(-1)
    distance2 = ((centre - start) ** 2).sum(-1) - nearest**2
    chord = 2.0 * np.sqrt(np.maximum(radius**2 - distance2, 0.0))
    inner = distance2 < (0.75 * radius) ** 2  # beyond, a voxel's blur is no small part of it
    assert inner.sum() > 500
    assert np.abs(path[inner] / chord[inner] - 1.0).max() < 0.01
    assert path.sum() == pytest.approx(chord.sum(), rel=0.002)


@pytest.mark.parametrize("view", VIEWS)
def test_path_through_a_cube_is_its_chord(view: str) -> None:
    cube, centre, half = _cube(), CUBE, HALF
    geometry = _geometry(cube, view, *SMALL)
    path = _project(cube, geometry)
    start, direction = _rays(geometry)
    with np.errstate(divide="ignore"):
        first, second = ((centre + s * half - start) / direction for s in (-1.0, 1.0))
    enter, leave = np.minimum(first, second).max(-1), np.maximum(first, second).min(-1)
    chord = np.maximum(leave - enter, 0.0)
    eroded = chord.copy()  # rays within some voxels of an edge see the edge's blur
    for shift in (-5, 5):
        for axis in (0, 1):
            eroded = np.minimum(eroded, np.roll(chord, shift, axis))
    inner = eroded > 0.6 * chord.max()
    assert inner.sum() > 200
    assert np.abs(path[inner] / chord[inner] - 1.0).max() < 0.01
    assert path.sum() == pytest.approx(chord.sum(), rel=0.005)


def _noise(seed: int, shape: tuple[int, int, int] = (13, 17, 19)) -> Volume:
    voxels = np.random.default_rng(seed).random(shape).astype(np.float32)
    return volume(voxels, (2.0, 1.1, 0.9))


@given(seed=st.integers(0, 2**32 - 1), view=st.sampled_from(VIEWS), a=st.floats(0.1, 5.0))
@settings(max_examples=25, deadline=None)
def test_integrals_add_up(seed: int, view: str, a: float) -> None:
    one, other = _noise(seed), _noise(seed + 1)
    both = Volume(a * one.voxels + other.voxels, one.origin, one.steps)
    geometry = _geometry(one, view, *SMALL, "projection.detector.size=[24,24]")
    np.testing.assert_allclose(
        _project(both, geometry),
        a * _project(one, geometry) + _project(other, geometry),
        rtol=1e-4,
        atol=1e-3,
    )


@given(seed=st.integers(0, 2**32 - 1), quarter=st.sampled_from([90.0, 180.0, 270.0]))
@settings(max_examples=15, deadline=None)
def test_turning_patient_and_view_together_changes_nothing(seed: int, quarter: float) -> None:
    ct = _noise(seed)
    angle = np.deg2rad(quarter)
    turn = np.round(
        np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    )
    turned = volume(ct.voxels, ct.spacing, turn=turn)
    view = f"{{angle_deg:{25.0},mirror:false,name:a}}"
    other = f"{{angle_deg:{25.0 + quarter},mirror:false,name:a}}"
    small = (*SMALL, "projection.detector.size=[24,24]")
    np.testing.assert_allclose(
        _project(ct, _geometry(ct, view, *small)),
        _project(turned, _geometry(turned, other, *small)),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
def test_rays_along_an_axis_are_its_sums(sampling: str) -> None:
    ct = _noise(0)
    config = projection("lidc_drr")
    geometry = build_geometry(config, config.views[0], ct)
    path = _project(ct, geometry, sampling)
    np.testing.assert_allclose(path, ct.voxels.sum(axis=1) * 1.1, rtol=1e-5)


def test_the_shortcut_along_an_axis_is_what_nearby_rays_give() -> None:
    ct = _noise(3)
    size = ("projection.detector.size=[24,20]", "projection.detector.pixel_mm=0.95")
    straight = _project(ct, _geometry(ct, "0", *size, beam="parallel"))
    nearly = _project(ct, _geometry(ct, "{angle_deg:0.02,name:b}", *size, beam="parallel"))
    assert np.abs(straight - nearly).max() < 0.05 * straight.max()


@pytest.mark.parametrize("view", VIEWS)
def test_memory_to_work_in_changes_nothing(view: str) -> None:
    ct = _noise(1, (40, 41, 42))
    geometry = _geometry(ct, view, *SMALL)
    whole = _project(ct, geometry, mb=256)
    few: list[int] = []
    field = Field(torch.from_numpy(ct.voxels), lambda part: (few.append(len(part)), part)[1])
    everything = (slice(0, 96), slice(0, 96))
    path = line_integrals(field, pixel_rays(ct, geometry, everything), "bilinear", 1)
    np.testing.assert_allclose(path.numpy().reshape(96, 96), whole, rtol=1e-4, atol=1e-4)
    assert len(few) > 4  # in blocks, then


def test_a_volume_turned_in_the_scanner_is_seen_where_it_is() -> None:
    """Direction cosines count: the same world, sampled on an oblique grid."""
    centre, radius = np.zeros(3), 14.0
    lesion = np.array([8.0, 0.0, 5.0])

    def inside(p: Any) -> Any:
        return ((p - lesion) ** 2).sum(-1) <= radius**2

    plain = _covered(inside, (44, 44, 44), (1.0, 1.0, 1.0), centre)
    a = np.deg2rad(17.0)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    oblique = volume(plain.voxels, turn=turn)
    index = np.moveaxis(np.indices(plain.voxels.shape), 0, -1).astype(float)
    oblique = Volume(inside(oblique.to_world(index)).astype(np.float32), oblique.origin,
                     oblique.steps)  # fmt: skip
    geometry = _geometry(plain, "PA", *SMALL)
    one, other = _project(plain, geometry), _project(oblique, geometry)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.998
    assert one.sum() == pytest.approx(other.sum(), rel=0.01)
