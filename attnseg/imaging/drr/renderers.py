"""What integrates attenuation along rays: the built-in projector, or an installed renderer.

The interface is one function: a field and rays in voxel indices in, one integral a ray out.
Whoever renders, geometry, masks and display stay attnseg's own. Neither library is asked for its
own geometry, so a DRR differs by interpolation only: DiffDRR's is Siddon's exact path through
voxels, nanodrr's trilinear.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attnseg.common.errors import ConfigError
from attnseg.imaging.drr.integrals import MIB, Field, Rays, line_integrals

Renderer = Callable[[Field, Rays, int], Tensor]
"""(field, rays, MiB to work in) -> (N,) float32 integrals."""

_LEAST_WAY = 1e-3  # of a voxel, from end to end of a ray
_HOW = {
    "nanodrr": "pip install 'attnseg[nanodrr]'",
    "diffdrr": "pip install --no-deps diffdrr (its dependencies bring torchvision, VTK and "
    "Jupyter, and none of them is needed here)",
}


def find_renderer(name: str) -> Renderer:
    """The renderer that a configuration names.

    Raises:
        ConfigError: it is not installed.
    """
    if name == "builtin":
        return _builtin
    return (
        _diffdrr(_imported(name, "diffdrr.renderers"))
        if name == "diffdrr"
        else _nanodrr(_imported(name, "nanodrr.data"), _imported(name, "nanodrr.drr"))
    )


def _builtin(field: Field, rays: Rays, chunk_mb: int) -> Tensor:
    return line_integrals(field, rays, "bilinear", chunk_mb)


def _diffdrr(library: Any) -> Renderer:
    """DiffDRR's Siddon (Gopalakrishnan and Golland, MICCAI CLIP 2022)."""

    def render(field: Field, rays: Rays, chunk_mb: int) -> Tensor:
        siddon = library.Siddon(voxel_shift=0.5)
        volume = field.whole().permute(2, 1, 0)  # it indexes x, y, z
        planes = sum(volume.shape) + 3
        total = torch.zeros(len(rays.start), device=volume.device)
        for block in _blocks(len(total), chunk_mb, 40 * planes):
            part = rays.part(block)
            start, end, length = _on(part, volume.device)
            # It divides by the way along each axis: of rays across one, make that a little.
            end = end + ((end - start).abs() < _LEAST_WAY) * _LEAST_WAY
            found = siddon(volume, start[None], end[None], length[None, None])
            total[block] = found.reshape(-1)
        return total

    return render


def _nanodrr(data: Any, library: Any) -> Renderer:
    """nanodrr's ray marching; its camera frame is made the voxels' own."""

    def render(field: Field, rays: Rays, chunk_mb: int) -> Tensor:
        volume = field.whole()[None, None]
        device = volume.device
        identity = torch.eye(4, device=device)
        subject = data.Subject(
            volume,
            torch.zeros_like(volume),
            voxel_to_world=identity,
            world_to_voxel=identity,
            voxel_to_grid=data.Subject._make_voxel_to_grid(volume.shape).to(device),
            isocenter=torch.zeros(3, device=device),
            max_label=0,
            convert_to_mu=False,
        )
        samples = 2 * max(field.voxels.shape)
        total = torch.zeros(len(rays.start), device=device)
        unused = torch.eye(3, device=device)[None]
        for block in _blocks(len(total), chunk_mb, 40 * samples):
            start, end, length = _on(rays.part(block), device)
            found = library.render(
                subject, unused, identity[None], torch.ones(1, device=device), 1, len(start),
                n_samples=samples, src=start[None], tgt=end[None], backend="torch",
            )  # fmt: skip
            # It measures in its own frame: from voxels to mm.
            total[block] = found.reshape(-1) * length / (end - start).norm(dim=1)
        return total

    return render


def _on(rays: Rays, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Start and end (N, 3) in the order x, y, z, and lengths (N,), as float32 on the device."""
    start, end, length = (
        part.float().to(device) for part in (rays.start, rays.end, rays.length_mm)
    )
    return start.flip(1), end.flip(1), length


def _blocks(count: int, chunk_mb: int, bytes_a_ray: int) -> list[slice]:
    size = max(256, chunk_mb * MIB // bytes_a_ray)
    return [slice(start, start + size) for start in range(0, count, size)]


def _imported(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"projection.renderer={name} is not installed ({error}); {_HOW[name]}, or use "
            "projection.renderer=builtin"
        ) from None
