"""Augmentation of whole batches where the model is, in place of the loader's: `augment.on_device`.

The loader still chooses the window, adds synthetic nodules, standardises and pads, and draws every
number from the sample's own generator; the numbers travel with the batch, on the host. What costs
time is done here: geometry by the loader's own code, intensity for many images at once. Up to
float rounding a batch is what the loader would have made of it, its masks to the pixel; only the
noise is another: the device draws it, keyed by (seed, epoch, sample) too, and another kind of
device draws other noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import default_collate

from attnseg.data.transforms import UNCHANGED, Augmentation

PLAN = "augmentation"
"""The key of a sample's `Plan`, and of a batch's `Plans`."""

_TRUNCATE = 3.0  # standard deviations of the blur, as in the loader


@dataclass(frozen=True)
class Plan:
    """What is to be done to one sample, which is larger than the patch by a margin all round.

    Attributes:
        augmentation: drawn for it.
        side: px of the patch.
        margin: px around the patch that the geometry looks at; no more than there are.
        box: top, left, height, width of the real image within patch and margin, in the sample's
            coordinates: grey values are changed there and nowhere else.
        noise_seed: 63 bits.
    """

    augmentation: Augmentation
    side: int
    margin: int
    box: tuple[int, int, int, int]
    noise_seed: int


class Plans:
    """The plans of a batch, in its order.

    No list and no dataclass: whatever moves or pins a batch looks into those.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.plans = list(plans)


def collate(samples: Sequence[Any]) -> Any:
    """A batch of samples, and of their plans where they have any."""
    if not isinstance(samples[0], dict) or PLAN not in samples[0]:
        return default_collate(list(samples))
    bare = [{key: value for key, value in s.items() if key != PLAN} for s in samples]
    return {**default_collate(bare), PLAN: Plans([sample[PLAN] for sample in samples])}


@torch.no_grad()
def augment_batch(batch: dict[str, Any]) -> dict[str, Any]:
    """Carry out a batch's plans on the device that its images are on; without plans, nothing.

    Returns:
        The batch without its plans; xray, drr, mask (B, 1, side, side) in their own dtype.
    """
    if PLAN not in batch:
        return batch
    batch = dict(batch)
    plans: list[Plan] = batch.pop(PLAN).plans
    dtype = batch["xray"].dtype
    pixels = torch.cat([batch["xray"], batch["drr"], batch["mask"]], dim=1).float()
    _change_intensity(pixels, plans)
    spare = (pixels.shape[-1] - plans[0].side) // 2
    done = torch.stack([_map(pixels[i], plan, spare) for i, plan in enumerate(plans)]).to(dtype)
    batch["xray"], batch["drr"], batch["mask"] = done[:, 0:1], done[:, 1:2], done[:, 2:3]
    return batch


def _map(pixels: Tensor, plan: Plan, spare: int) -> Tensor:
    """Geometry of one sample, (3, H, W) to (3, side, side)."""
    cut, side = spare - plan.margin, plan.side + 2 * plan.margin
    region = pixels[:, cut : cut + side, cut : cut + side]
    return plan.augmentation.geometry(region, plan.side)


def _change_intensity(pixels: Tensor, plans: Sequence[Plan]) -> None:
    """X-rays and DRRs of a batch (B, 3, H, W), in place; see `Intensity` for what and in order."""
    changed = [
        (row, channel, one)
        for row, plan in enumerate(plans)
        for channel, one in enumerate((plan.augmentation.xray, plan.augmentation.drr))
        if one != UNCHANGED
    ]
    if not changed:
        return
    rows, channels, chosen = zip(*changed, strict=True)
    boxes = np.array([plans[row].box for row in rows])
    planes = pixels[rows, channels]
    inside = _inside(boxes, planes)

    def apply(name: str, neutral: float, change: Callable[[Tensor, _Some], Tensor]) -> None:
        values = np.array([getattr(one, name) for one in chosen])
        (index,) = np.nonzero(values != neutral)
        if len(index):
            where = torch.from_numpy(index).to(planes.device)
            some = _Some(values[index], boxes[index], inside[where])
            planes[where] = change(planes[where], some)

    apply("gamma", 1.0, _gamma)
    apply("contrast", 1.0, lambda images, some: images * some.column(images))
    apply("blur_px", 0.0, _blur)
    _add_noise(planes, plans, rows, channels)
    pixels[rows, channels] = planes.where(inside, 0.0)


@dataclass(frozen=True)
class _Some:
    """Images that share a change: its values (n,), their boxes (n, 4), what is inside (n, H, W)."""

    values: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.int64]
    inside: Tensor

    def column(self, images: Tensor) -> Tensor:
        """(n, 1, 1), beside the images."""
        return _like(self.values, images)[:, None, None]


def _gamma(images: Tensor, some: _Some) -> Tensor:
    low = images.where(some.inside, torch.inf).amin((-2, -1), keepdim=True)
    high = images.where(some.inside, -torch.inf).amax((-2, -1), keepdim=True)
    extent = (high - low).clamp_min(1e-6)
    # Outside the box the base may be negative; that is cleared in the end, but NaN would spread.
    base = ((images - low) / extent).clamp_min(0.0)
    return base ** some.column(images) * extent + low


def _blur(images: Tensor, some: _Some) -> Tensor:
    """Gaussians of several widths, mirrored at the edges of the boxes as scipy.ndimage does it."""
    reach = (_TRUNCATE * some.values + 0.5).astype(int)
    longest = int(reach.max())
    steps = np.arange(-longest, longest + 1)
    weights = np.exp(-0.5 * (steps / some.values[:, None]) ** 2)
    weights *= np.abs(steps) <= reach[:, None]
    kernel = _like(weights / weights.sum(axis=1, keepdims=True), images)
    for axis in (1, 2):
        length = images.shape[axis]
        places = _mirrored(some.boxes[:, axis - 1], some.boxes[:, axis + 1], length, longest)
        index = torch.from_numpy(places).to(images.device)
        index = index[:, :, None] if axis == 1 else index[:, None, :]
        shape = list(images.shape)
        shape[axis] = length + 2 * longest
        wide = images.gather(axis, index.expand(shape))
        images = torch.zeros_like(images)
        for step in range(len(steps)):
            images.addcmul_(wide.narrow(axis, step, length), kernel[:, step, None, None])
    return images


def _mirrored(
    start: npt.NDArray[np.int64], length: npt.NDArray[np.int64], side: int, reach: int
) -> npt.NDArray[np.int64]:
    """(n, side + 2 * reach): which pixel of its box each place takes its value from."""
    beyond = np.arange(-reach, side + reach) - start[:, None]
    within = beyond % (2 * length[:, None])
    places: npt.NDArray[np.int64] = start[:, None] + np.minimum(
        within, 2 * length[:, None] - 1 - within
    )
    return places


def _add_noise(
    planes: Tensor,
    plans: Sequence[Plan],
    rows: Sequence[int],
    channels: Sequence[int],
) -> None:
    """Both images' grain is drawn for every sample: that of one does not depend on the other."""
    for number, plan in enumerate(plans):
        levels = plan.augmentation.xray.noise, plan.augmentation.drr.noise
        if not any(levels):
            continue
        generator = torch.Generator(planes.device).manual_seed(plan.noise_seed)
        grain = torch.randn((2, *planes.shape[1:]), generator=generator, device=planes.device)
        for place, (row, channel) in enumerate(zip(rows, channels, strict=True)):
            if row == number:
                planes[place].add_(grain[channel], alpha=levels[channel])


def _inside(boxes: npt.NDArray[np.int64], planes: Tensor) -> Tensor:
    """(n, H, W) bool: whether a pixel is in its image's box."""
    axes = []
    for axis in (0, 1):
        place = np.arange(planes.shape[axis + 1]) - boxes[:, axis, None]
        within = (place >= 0) & (place < boxes[:, axis + 2, None])
        axes.append(torch.from_numpy(within).to(planes.device))
    return axes[0][:, :, None] & axes[1][:, None, :]


def _like(values: npt.NDArray[np.float64], images: Tensor) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(images.device)
