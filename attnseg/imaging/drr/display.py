"""From a line integral of attenuation to the picture that is shown: dense tissue bright."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attnseg.config.drr import DisplayConfig

Array = npt.NDArray[Any]
Image = npt.NDArray[np.float32]
Equalize = Callable[[Array, float], Array]


def develop(
    optical_depth: Array, display: DisplayConfig, equalize: Equalize | None = None
) -> tuple[Image, tuple[float, float]]:
    """Beer and Lambert, the window, local contrast, and the inversion.

    Args:
        optical_depth: (H, W) integral of attenuation along each ray.
        display: see conf/projection/.
        equalize: (image, clip limit) -> image; None takes scikit-image's.

    Returns:
        (H, W) float32 in [0, 1], and the signal's values that became 0 and 1 before inversion
        (of `log`: minus the optical depth).
    """
    depth = optical_depth.astype(np.float64)
    signal = np.exp(-depth) if display.signal == "intensity" else -depth
    if display.window is None:
        assert display.percentiles is not None, "the schema wants one of the two"
        low, high = (float(value) for value in np.percentile(signal, display.percentiles))
    elif display.signal == "intensity":
        low, high = display.window
    else:
        low, high = -display.window[1], -display.window[0]
    image = np.clip((signal - low) / max(high - low, 1e-12), 0.0, 1.0)
    if display.clahe_clip > 0.0:
        image = (equalize or equalize_adaptively)(image, display.clahe_clip)
    if display.blur_px > 0.0:
        image = ndimage.gaussian_filter(image, display.blur_px, mode="nearest")
    shown: Image = (1.0 - image).astype(np.float32)
    return shown, (low, high)


def equalize_adaptively(image: Array, clip: float) -> Array:
    """CLAHE as the published DRRs have it (scikit-image, tiles of an eighth of each side)."""
    from skimage.exposure import equalize_adapthist

    if image.min() == image.max():  # nothing to equalise; scikit-image would divide by 0
        return image
    equalized: Array = equalize_adapthist(image, clip_limit=clip)
    return equalized


def to_square(image: Image, shape: tuple[int, int]) -> Image:
    """Antialiased resampling, as the published DRRs were (scikit-image); in [0, 1] still."""
    from skimage.transform import resize

    if image.shape == shape:
        return image
    resized: Array = resize(image, shape, order=1, anti_aliasing=True)
    square: Image = np.clip(resized, 0.0, 1.0).astype(np.float32)
    return square


def nearest(values: Array, shape: tuple[int, int]) -> Array:
    """Nearest-neighbour resampling of masks and labels."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(shape, values.shape, strict=True)
    )
    return np.ascontiguousarray(values[rows][:, columns])
