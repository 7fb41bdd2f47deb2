"""One view of a CT: rays, line integrals, the picture, the nodules by the same rays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from attnseg.config.drr import ProjectionConfig, ViewConfig
from attnseg.imaging.drr.attenuation import attenuation_per_mm
from attnseg.imaging.drr.display import Image, develop, nearest, to_square
from attnseg.imaging.drr.geometry import Geometry, build_geometry
from attnseg.imaging.drr.integrals import Field, Rays
from attnseg.imaging.drr.masks import ProjectedNodules, project_nodules
from attnseg.imaging.drr.renderers import find_renderer
from attnseg.imaging.drr.volume import Array, Volume


@dataclass(frozen=True, eq=False)
class Projection:
    """What one view shows.

    Attributes:
        view: which.
        geometry: of the pixels below.
        image: (H, W) float32 in [0, 1], dense tissue bright.
        shown: the signal's values that became white and black (see `develop`).
        nodules: on the image's grid; None without a mask.
    """

    view: ViewConfig
    geometry: Geometry
    image: Image
    shown: tuple[float, float]
    nodules: ProjectedNodules | None


def project_view(
    ct: Volume,
    nodules: Volume | None,
    projection: ProjectionConfig,
    view: ViewConfig,
    device: str = "cpu",
    chunk_mb: int = 32,
) -> Projection:
    """Project a CT and its nodules.

    Args:
        ct: in HU.
        nodules: labels on the CT's grid.
        projection: conf/projection/.
        view: one of its views.
        device: where attenuation is integrated.
        chunk_mb: memory to work in.

    Raises:
        DataError: the source would lie inside the CT.
    """
    geometry = build_geometry(projection, view, ct)
    depth = optical_depth(ct, geometry, projection, device, chunk_mb)
    image, shown = develop(depth, projection.display)
    found = None
    if nodules is not None:
        fine = _divided(geometry, projection.rays_per_pixel)
        found = project_nodules(nodules, fine, pixel_rays, chunk_mb)
        found = _per_pixel(found, projection.rays_per_pixel)
    if projection.detector.grid == "voxels":
        z, _, x = ct.spacing
        shape = (int(round(geometry.shape[0] * z / x, 3)), geometry.shape[1])
        # Rows were slices so far, as in the published recipe: tiles of CLAHE begin at the feet.
        geometry, image = geometry.upside_down().resized(shape), to_square(image[::-1], shape)
        if found is not None:
            found = replace(
                found,
                thickness=nearest(found.thickness[::-1], shape),
                labels=nearest(found.labels[::-1], shape),
            )
    return Projection(view, geometry, image, shown, found)


def optical_depth(
    ct: Volume,
    geometry: Geometry,
    projection: ProjectionConfig,
    device: str = "cpu",
    chunk_mb: int = 32,
) -> Array:
    """The integral of attenuation along the ray of every pixel, (H, W) float32."""
    voxels = torch.from_numpy(ct.voxels).to(device)
    value = attenuation_per_mm(projection.attenuation, voxels, ct.spacing[1])
    render = find_renderer(projection.renderer)
    field = Field(voxels, value)
    n = projection.rays_per_pixel
    fine = _divided(geometry, n)
    everything = (slice(0, fine.shape[0]), slice(0, fine.shape[1]))
    path = render(field, pixel_rays(ct, fine, everything), chunk_mb)
    depth: Array = _blocks(path.cpu().numpy().reshape(fine.shape), n).mean(axis=(1, 3))
    return depth


def pixel_rays(volume: Volume, geometry: Geometry, where: tuple[slice, slice]) -> Rays:
    """The rays of a rectangle of pixels, row by row, in a volume's indices."""
    rows, columns = (torch.arange(p.start, p.stop, dtype=torch.float64) for p in where)
    zero = np.zeros(3)
    corner, down, right, beam = (
        torch.from_numpy(volume.to_index(point) - volume.to_index(base))
        for point, base in (
            (geometry.corner, volume.origin),
            (geometry.row_step, zero),
            (geometry.column_step, zero),
            (geometry.depth_mm * geometry.direction, zero),
        )
    )
    end = corner + rows[:, None, None] * down + columns[:, None] * right
    end = end.reshape(-1, 3)
    if geometry.beam == "parallel":
        length = torch.full((len(end),), geometry.depth_mm, dtype=torch.float64)
        return Rays(end - beam, end, length)
    foot = geometry.world_to_pixel(geometry.isocentre)
    steps = [float(np.linalg.norm(step)) for step in (geometry.row_step, geometry.column_step)]
    aside = ((rows - foot[0]) * steps[0])[:, None] ** 2 + ((columns - foot[1]) * steps[1]) ** 2
    length = (aside + geometry.depth_mm**2).sqrt().reshape(-1)
    source = torch.from_numpy(volume.to_index(geometry.source))
    # On to where the CT ends, should its corners reach behind the detector.
    reach = float(((volume.corners() - geometry.source) @ geometry.direction).max()) + 10.0
    further = max(1.0, reach / geometry.depth_mm)
    return Rays(source.expand_as(end), source + further * (end - source), further * length)


def all_views(projection: ProjectionConfig, case: str) -> list[ViewConfig]:
    """The configured views, and those drawn for a case around the first: by (seed, case)."""
    extra = projection.random_views
    views, first = list(projection.views), projection.views[0]
    for number in range(extra.count):
        key = hashlib.sha256(f"{extra.seed}|{case}|{number}".encode()).digest()
        angle, tilt = np.random.default_rng(list(key[:8])).uniform(-1.0, 1.0, 2)
        views.append(
            ViewConfig(
                name=f"{first.name}_r{number + 1}",
                angle_deg=first.angle_deg + round(float(angle) * extra.angle_deg, 3),
                tilt_deg=first.tilt_deg + round(float(tilt) * extra.tilt_deg, 3),
                mirror=first.mirror,
            )
        )
    return views


def _divided(geometry: Geometry, n: int) -> Geometry:
    return geometry if n == 1 else geometry.resized((geometry.shape[0] * n, geometry.shape[1] * n))


def _blocks(values: Array, n: int) -> Array:
    """(H n, W n) as (H, n, W, n)."""
    return values.reshape(values.shape[0] // n, n, values.shape[1] // n, n)


def _per_pixel(found: ProjectedNodules, n: int) -> ProjectedNodules:
    """From rays to pixels: mean thickness; of labels the one of the pixel's thickest ray."""
    if n == 1:
        return found
    rows, columns = found.labels.shape[0] // n, found.labels.shape[1] // n

    def rays(values: Array) -> Array:
        return _blocks(values, n).transpose(0, 2, 1, 3).reshape(rows, columns, n * n)

    thickness = rays(found.thickness)
    thickest = thickness.argmax(axis=2)[..., None]
    labels = np.take_along_axis(rays(found.labels), thickest, axis=2)[..., 0]
    return replace(found, thickness=thickness.mean(axis=2), labels=labels)
