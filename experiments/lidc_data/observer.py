"""A learned local observer: logistic regression on a bank of derivatives of Gaussians.

The matched filter of `visibility` is fixed; this one learns, from training patients, which
mixture of local structure (blobs, ridges, edges, density at five scales) and of place in the
lungs speaks for a nodule. It has no layers and 49 weights: what it reaches is what local
appearance gives away cheaply, and what a network must beat to be worth its training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage

from experiments.lidc_data.cases import Studied
from experiments.lidc_data.lungs import bounding_box
from experiments.lidc_data.prior import Map, padded

STRIDE = 4
"""px between the places that the observer looks at."""

_LEVELS = 5  # octaves: sigma 1.5, 3, 6, 12, 24 px
_SIGMA = 1.5
_NEGATIVES = 150  # places without a lesion that a training case gives
_L2 = 1e-3

Features = npt.NDArray[np.float32]


def local_features(studied: Studied) -> Features:
    """(h, w, n) at every `STRIDE`-th pixel of the case.

    At each octave, divided by the local standard deviation there: minus the Laplacian (blobs),
    the difference of the Hessian's eigenvalues (ridges: vessels, ribs), the gradient's size,
    and the grey level less that of the next octave. Besides them the place in the lungs' box
    (mirrored) and whether it is lung.
    """
    shape = tuple(-(-side // STRIDE) for side in studied.drr.shape)
    image, found = studied.drr, []
    for level in range(_LEVELS):
        smooth = ndimage.gaussian_filter(image, _SIGMA)
        found += [_at_stride(one, 2**level, shape) for one in _structure(smooth)]
        image = _half(smooth)
    top, left, height, width = bounding_box(studied.lungs)
    row = (np.arange(shape[0]) * STRIDE - top) / height - 0.5
    column = np.abs((np.arange(shape[1]) * STRIDE - left) / width - 0.5)
    rows, columns = np.meshgrid(row.clip(-1.5, 1.5), column.clip(0, 1.5), indexing="ij")
    inside = _at_stride(ndimage.gaussian_filter(studied.lungs.astype(np.float32), 4), 1, shape)
    place = [rows, columns, rows * columns, inside]
    return np.stack(found + place, -1).astype(np.float32)


def fit_observer(
    train: Sequence[tuple[Features, Studied]], seed: int
) -> Callable[[Features], npt.NDArray[np.float32]]:
    """Fit on lesion places against random ones (in or near the lungs); returns feature -> logit.

    Every lesion weighs the same, whatever its area, and all lesions as much as all the rest.
    """
    rng = np.random.default_rng(seed)
    rows, target, weight = [], [], []
    for features, studied in train:
        labels = studied.labels[::STRIDE, ::STRIDE]
        near = ndimage.binary_dilation(studied.lungs[::STRIDE, ::STRIDE], iterations=4)
        free = np.argwhere(near & ~ndimage.binary_dilation(labels > 0))
        chosen = free[rng.choice(len(free), min(_NEGATIVES, len(free)), replace=False)]
        rows.append(features[chosen[:, 0], chosen[:, 1]])
        target += [0.0] * len(chosen)
        weight += [1.0] * len(chosen)
        for lesion in studied.lesions:
            at = np.argwhere(labels == lesion.number)
            if not len(at):  # it slips through the grid
                at = np.rint(np.array([lesion.centre]) / STRIDE).astype(int)
                at = at.clip(0, np.array(labels.shape) - 1)
            rows.append(features[at[:, 0], at[:, 1]])
            target += [1.0] * len(at)
            weight += [1.0 / len(at)] * len(at)
    return _logistic(np.concatenate(rows), np.array(target), np.array(weight))


def predict_map(
    features: Features, observer: Callable[[Features], Features], studied: Studied, size: int
) -> Map:
    """The observer's probability at every pixel of the model's square."""
    logits = torch.from_numpy(observer(features))[None, None]
    shape = (features.shape[0] * STRIDE, features.shape[1] * STRIDE)
    # Corner pixels of the grid lie on whole pixels: the first is pixel 0, not pixel 1.5.
    full = F.interpolate(logits, shape, mode="bilinear", align_corners=False)[0, 0].numpy()
    full = ndimage.shift(full, (-1.5, -1.5), order=1, mode="nearest")
    full = full[: studied.drr.shape[0], : studied.drr.shape[1]]
    return padded(1.0 / (1.0 + np.exp(-full)), size)


def _structure(smooth: Map) -> list[Map]:
    """Blob, ridge, edge and density of one octave, each relative to the local variation."""
    gradient_y, gradient_x = np.gradient(smooth)
    (yy, yx), (_, xx) = np.gradient(gradient_y), np.gradient(gradient_x)
    wide = ndimage.uniform_filter(smooth, 9)
    # A running sum of squares can end a hair below zero.
    variation = np.sqrt(ndimage.uniform_filter((smooth - wide) ** 2, 25).clip(0)) + 1.0
    found = (-(yy + xx), np.hypot(yy - xx, 2 * yx), np.hypot(gradient_y, gradient_x), smooth - wide)
    return [np.asarray(one / variation, dtype=np.float32) for one in found]


def _half(image: Map) -> Map:
    half: Map = image[::2, ::2]
    return half


def _at_stride(values: Map, step: int, shape: tuple[int, ...]) -> Map:
    """Values on a grid of `step` px, at the places of the stride's grid."""
    rows, columns = (np.arange(side) * STRIDE / step for side in shape)
    if step <= STRIDE:
        picked: Map = values[np.ix_(rows.astype(int), columns.astype(int))]
        return picked
    at = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(
        ndimage.map_coordinates(values, at, order=1, mode="nearest"), dtype=np.float32
    )


def _logistic(
    rows: Features, target: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]
) -> Callable[[Features], Features]:
    """Weighted, balanced, ridge-penalised logistic regression on features and their squares.

    The squares let "too much" count against a nodule.
    """
    rows = np.concatenate([rows, rows**2], -1)
    mean, std = rows.mean(0), rows.std(0) + 1e-6
    x = torch.from_numpy((rows - mean) / std).double().clamp(-6, 6)
    y, w = torch.from_numpy(target), torch.from_numpy(weight)
    w = torch.where(y > 0, w / w[y > 0].sum(), w / w[y == 0].sum())
    beta = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([beta], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ beta[1:] + beta[0], y, w, reduction="sum")
        loss = loss + _L2 * beta[1:].square().sum()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    fitted = beta.detach().numpy()

    def observer(features: Features) -> Features:
        both = np.concatenate([features, features**2], -1)
        scaled = ((both - mean) / std).clip(-6, 6)
        logits: Features = (scaled @ fitted[1:] + fitted[0]).astype(np.float32)
        return logits

    return observer


def observer_beats(
    features: Features, observer: Callable[[Features], Features], studied: Studied
) -> None:
    """Add to every lesion `observer`: the share of lung places that score below its best one.

    A place of the stride's grid in the lung fields and off every lesion; the lesion's best is
    compared with the best in discs of its size, so that a large one has no advantage.
    """
    logits = observer(features)
    labels = studied.labels[::STRIDE, ::STRIDE]
    free = studied.lungs[::STRIDE, ::STRIDE] & ~ndimage.binary_dilation(labels > 0)
    if not free.any():
        return
    for lesion in studied.lesions:
        side = 2 * round(lesion.diameter / 2 / STRIDE) + 1
        best = ndimage.maximum_filter(logits, size=side)
        row, column = (round(value / STRIDE) for value in lesion.centre)
        row, column = min(row, logits.shape[0] - 1), min(column, logits.shape[1] - 1)
        lesion.values["observer"] = float((best[free] < best[row, column]).mean())
