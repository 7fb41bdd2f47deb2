"""Pictures of a prediction: the overlay, the capture for PACS viewers, the layers of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attnseg.common.connectivity import EIGHT
from attnseg.imaging.resize import fitted_shape, resize_image, resize_mask
from attnseg.inference.grid import square_shape
from attnseg.inference.lesions import Lesion
from attnseg.reports.style import HEAT, PREDICTION

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
LAYERS = ("xray.jpg", "probability.png", "attention.png", "std.png", "outline.png")
_LEVELS = 32  # of a heat layer: few compress well, and an eye tells no more apart


@dataclass(frozen=True)
class Scene:
    """What is shown of a case, everything (h, w) on one grid of square pixels.

    Attributes:
        grey: the X-ray between its 1st and 99th percentile.
        mask: 0/1.
        probability, attention, std: scaled to [0, 1] for display; None where there is none.
        marks: (row, column beside it, number, score) of each lesion.
    """

    grey: Grey
    mask: Grey
    probability: Floats
    attention: Floats | None
    std: Floats | None
    marks: tuple[tuple[float, float, int, float], ...]


def make_scene(
    xray: npt.NDArray[Any],
    mask: Grey,
    probability: Floats,
    attention: Floats | None,
    std: Floats | None,
    lesions: Sequence[Lesion],
    *,
    threshold: float,
    aspect: float,
    side: int,
    least: int = 1,
) -> Scene:
    """Bring a case's images (H, W) to display size: the longer side `least` to `side` px."""
    square = square_shape((xray.shape[0], xray.shape[1]), aspect)
    shape = fitted_shape(square, max(least, min(side, max(square))))
    small = resize_image(xray.astype(np.float32), shape)
    low, high = np.percentile(small, (1, 99))
    grey = np.clip((small - low) / max(high - low, 1e-6), 0, 1) * 255
    # Rare lesions can have thresholds of a few per cent: what is found must not look black.
    top = min(1.0, max(2 * threshold, 0.02))
    shown: Floats = np.clip(resize_image(probability, shape) / top, 0, 1).astype(np.float32)
    scale = shape[0] / xray.shape[0], shape[1] / xray.shape[1]

    def right(lesion: Lesion) -> int:
        return lesion.box[1] + lesion.box[3]

    marks = (
        (lesion.row_px * scale[0], right(lesion) * scale[1], lesion.number, lesion.score)
        for lesion in lesions
    )
    return Scene(
        grey=grey.astype(np.uint8),
        mask=resize_mask(mask, shape),
        probability=shown,
        attention=None if attention is None else np.clip(resize_image(attention, shape), 0, 1),
        std=None if std is None else np.clip(resize_image(std, shape) * np.float32(2), 0, 1),
        marks=tuple(marks),
    )


def outline(mask: Grey) -> npt.NDArray[np.bool_]:
    """The pixels just outside a mask, so that nothing of it is covered."""
    grown = ndimage.binary_dilation(mask > 0, structure=EIGHT)
    edge: npt.NDArray[np.bool_] = grown & (mask == 0)
    return edge


def draw_scene(scene: Scene, words: str, *, most_marks: int = 30) -> npt.NDArray[np.uint8]:
    """The X-ray with the lesions' outlines and numbers, beside it the attention; words below.

    Returns:
        (h + strip, w or 2 w, 3) uint8 RGB.
    """
    from PIL import Image, ImageDraw

    found = np.repeat(scene.grey[..., None], 3, axis=2)
    found[outline(scene.mask)] = _rgb(PREDICTION)
    panels = [found]
    if scene.attention is not None:
        heat = _colours()[_levels(scene.attention)].astype(np.float32)
        share = (0.1 + 0.6 * scene.attention)[..., None]
        mixed = scene.grey[..., None] * (1 - share) + heat * share
        panels.append(mixed.astype(np.uint8))
    picture = np.concatenate(panels, axis=1)
    size = max(11, scene.grey.shape[1] // 42)
    lines = _wrapped(words, picture.shape[1], size)
    strip = np.zeros((len(lines) * (size + 4) + 8, picture.shape[1], 3), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([picture, strip]))
    draw = ImageDraw.Draw(image)
    font = _font(size)
    for row, column, number, score in scene.marks[:most_marks]:
        left = min(column + size / 2, scene.grey.shape[1] - 4 * size)
        draw.text((left, max(0, row - size)), f"{number}: {score:.2f}", PREDICTION, font=font)
    for index, line in enumerate(lines):
        place = (6, picture.shape[0] + 4 + index * (size + 4))
        draw.text(place, line, "#DDDDDD", font=font)
    return np.asarray(image)


def write_layers(scene: Scene, folder: Path) -> list[str]:
    """Write the layers of the page (see `LAYERS`); returns the names of those there are."""
    from PIL import Image

    folder.mkdir()
    Image.fromarray(scene.grey).save(folder / "xray.jpg", quality=88)
    written = ["xray.jpg"]
    for name in ("probability", "attention", "std"):
        values = getattr(scene, name)
        if values is not None:
            _write_heat(values, folder / f"{name}.png")
            written.append(f"{name}.png")
    edge = Image.fromarray(outline(scene.mask).astype(np.uint8), mode="P")
    edge.putpalette([0, 0, 0, *_rgb(PREDICTION)])
    edge.save(folder / "outline.png", transparency=bytes([0, 255]), bits=1)
    return [*written, "outline.png"]


def _write_heat(values: Floats, path: Path) -> None:
    """A heat layer with its own transparency: the higher, the more opaque."""
    from PIL import Image

    image = Image.fromarray(_levels(values), mode="P")
    image.putpalette(_colours().reshape(-1).tolist())
    opacity = np.linspace(0, 255, _LEVELS)
    image.save(path, transparency=bytes(int(value) for value in opacity))


def _levels(values: Floats) -> Grey:
    return np.minimum(values * _LEVELS, _LEVELS - 1).astype(np.uint8)


def _colours() -> Grey:
    """(levels, 3) uint8 of the heat map that every picture uses."""
    from matplotlib import colormaps

    rgba = colormaps[HEAT](np.linspace(0.15, 1, _LEVELS))
    colours: Grey = np.rint(rgba[:, :3] * 255).astype(np.uint8)
    return colours


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _wrapped(words: str, width: int, size: int) -> list[str]:
    import textwrap

    return textwrap.wrap(words, max(20, int(width / (0.55 * size)))) or [""]
