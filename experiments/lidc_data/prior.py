"""What knowing where nodules lie is worth, without looking at the image: the floor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from attnseg.metrics.collection import ValidationMetrics
from attnseg.metrics.segmentation import SegmentationMetrics
from experiments.lidc_data.cases import Studied
from experiments.lidc_data.lungs import bounding_box

Map = npt.NDArray[np.float32]
Progress = Callable[[int], object]

ATLAS = 128
"""Side of the lungs' bounding box in the atlas that lesions are gathered in, px."""

_MARGIN = 32  # atlas px around the box: behind the diaphragm, the apices' tips


def padded(array: npt.NDArray[np.generic], size: int) -> Map:
    """(H, W) in the middle of a square, as the model gets it."""
    height, width = array.shape
    square = np.zeros((size, size), dtype=np.float32)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = array
    return square


def centred_prior(train: Sequence[Studied], size: int, sigma: float) -> Callable[[Studied], Map]:
    """The mean mask of the training cases on the model's square, smoothed and mirrored.

    Every positive case counts the same, however large its lesions.
    """
    total = np.zeros((size, size), dtype=np.float64)
    for studied in train:
        if studied.mask.any():
            total += padded(studied.mask, size) / studied.mask.sum()
    prior = _normalised(ndimage.gaussian_filter(total, sigma))
    return lambda _: prior


def lung_prior(train: Sequence[Studied], size: int, sigma: float) -> Callable[[Studied], Map]:
    """The same, gathered in the frame of the lungs' bounding box, and put back into it."""
    atlas = heat_map(train, sigma)

    def predict(studied: Studied) -> Map:
        top, left, height, width = bounding_box(studied.lungs)
        rows = (np.arange(studied.mask.shape[0]) - top) / height * ATLAS + _MARGIN
        columns = (np.arange(studied.mask.shape[1]) - left) / width * ATLAS + _MARGIN
        at = np.meshgrid(rows, columns, indexing="ij")
        return padded(ndimage.map_coordinates(atlas, at, order=1, cval=0.0), size)

    return predict


def uniform_lungs(train: Sequence[Studied], size: int, sigma: float) -> Callable[[Studied], Map]:
    """No learning at all: the case's own lung fields, smoothed."""
    del train

    def predict(studied: Studied) -> Map:
        smooth = ndimage.gaussian_filter(studied.lungs.astype(np.float32), sigma)
        return padded(smooth, size)

    return predict


def heat_map(cases: Sequence[Studied], sigma: float) -> Map:
    """Where lesions lie in the frame of the lungs' bounding box: mirrored, smoothed, top 1."""
    side = ATLAS + 2 * _MARGIN
    total = np.zeros((side, side), dtype=np.float64)
    for studied in cases:
        top, left, height, width = bounding_box(studied.lungs)
        rows, columns = np.nonzero(studied.mask)
        at_row = ((rows - top) / height * ATLAS + _MARGIN).astype(int).clip(0, side - 1)
        at_column = ((columns - left) / width * ATLAS + _MARGIN).astype(int).clip(0, side - 1)
        np.add.at(total, (at_row, at_column), 1.0 / max(1, len(rows)))
    return _normalised(ndimage.gaussian_filter(total, sigma * ATLAS / 384))  # lungs: 384 px or so


def score_prediction(
    folds: Sequence[tuple[Sequence[Studied], Sequence[Studied], Callable[[Studied], Map]]],
    size: int,
    progress: Progress,
) -> dict[str, float]:
    """Every evaluation metric of predictions on held-out cases.

    The map is both attention and probability. Each fold's threshold is the best one on its
    training cases (every third of them). Metrics are means over the folds, counts their sums.

    Args:
        folds: training cases, held-out cases, and what predicts a (size, size) map of a case.
        size: of the model's square.
        progress: called with the number of cases done.
    """
    results: list[Mapping[str, float]] = []
    for train, held_out, predict in folds:
        tuning = SegmentationMetrics()
        for studied in train[::3]:
            tuning.update(*(_tensor(one) for one in (predict(studied), padded(studied.mask, size))))
        threshold = tuning.best_threshold()
        metrics = ValidationMetrics(threshold, evaluation=True)
        for studied in held_out:
            guess, truth = _tensor(predict(studied)), _tensor(padded(studied.mask, size))
            spacing = torch.full((1, 2), studied.spacing)
            metrics.update(guess, guess, truth, spacing, [studied.case.case_id])
            progress(1)
        results.append(metrics.compute())
    found = {}
    for name in results[0]:
        values = np.array([result[name] for result in results])
        if not np.isnan(values).all():
            found[name] = float(np.nansum(values) if name.startswith("n_") else np.nanmean(values))
    return found


def _tensor(array: Map) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None]


def _normalised(values: npt.NDArray[np.float64]) -> Map:
    """Mirrored left-right (nodules know no side; hearts are few), and scaled to a top of 1."""
    both = values + values[:, ::-1]
    return (both / max(float(both.max()), 1e-12)).astype(np.float32)
