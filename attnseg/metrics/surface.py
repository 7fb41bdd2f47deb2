"""HD95: how far the outline of the predicted mask is from the true one."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree
from torch import Tensor

from attnseg.component import Doc, Measure
from attnseg.metrics.base import (
    MM,
    NEUTRAL_THRESHOLD,
    POSITIVE,
    PX,
    MeanOverCases,
    check_maps,
)
from attnseg.metrics.maps import REFERENCE_SIZE

_HD95 = (
    "95th percentile Hausdorff distance at the threshold, the image's diagonal where nothing is "
    "predicted"
)
Points = npt.NDArray[np.float64]


def outline(mask: npt.NDArray[np.bool_]) -> Points:
    """The pixels of a mask with a 4-neighbour outside it (or on the border): (n, 2).

    Example:
        >>> len(outline(np.ones((3, 3), dtype=bool)))
        8
    """
    return np.argwhere(mask & ~binary_erosion(mask)).astype(np.float64)


def hausdorff95(predicted: Points, true: Points, scale: npt.NDArray[np.float64]) -> float:
    """The larger of the two directed 95th percentiles of distances between outlines.

    The convention of MONAI and of Nikolov et al. 2021 (doi 10.2196/26151). Outlines of a few
    hundred points are looked up in k-d trees: exact, and cheaper than distance transforms.

    Args:
        predicted: (n, 2) outline, at least one point.
        true: (m, 2) outline, at least one point.
        scale: (2,) length of a pixel along rows and columns.

    Example:
        >>> hausdorff95(np.array([[0.0, 0.0]]), np.array([[0.0, 3.0]]), np.array([1.0, 0.5]))
        1.5
    """
    predicted, true = predicted * scale, true * scale
    to_true, to_predicted = KDTree(true).query(predicted)[0], KDTree(predicted).query(true)[0]
    return float(max(np.percentile(to_true, 95), np.percentile(to_predicted, 95)))


class SurfaceMetrics(MeanOverCases):
    """`hd95` in pixels at 512 x 512 and `hd95_mm`, means over the cases with a non-empty mask.

    An empty prediction has no outline: it is as far off as the image allows, its diagonal, so
    that predicting nothing never pays. `n_empty_predictions` counts them. Cases with an empty
    mask are left out (their false positives are counted elsewhere), cases without spacing are
    left out of `hd95_mm`.

    Example:
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., 2:4, 2:4] = 1.0
        >>> metric = SurfaceMetrics()
        >>> metric.update(mask, mask, torch.ones(1, 2))
        >>> metric.compute()["hd95_mm"]
        0.0
    """

    name = "surface"
    measures = {
        "hd95": Measure(f"{_HD95}; {POSITIVE}", False, PX, evaluation=True),
        "hd95_mm": Measure(f"{_HD95}; {POSITIVE} and known spacing", False, MM, evaluation=True),
        "n_empty_predictions": Measure(
            "positive cases in which nothing is predicted at the threshold", False, evaluation=True
        ),
    }
    n_empty_predictions: Tensor

    def __init__(
        self,
        threshold: Annotated[
            float | None, Doc("a pixel is predicted where its probability is above; null: 0.5")
        ] = None,
    ) -> None:
        super().__init__(["hd95", "hd95_mm"])
        self.threshold = NEUTRAL_THRESHOLD if threshold is None else threshold
        self.add_state("n_empty_predictions", torch.zeros((), dtype=torch.int64), "sum")

    def update(self, probability: Tensor, mask: Tensor, spacing: Tensor) -> None:
        """Add a batch: maps (B, 1, H, W), `spacing` (B, 2) mm per pixel or NaN."""
        check_maps(probability, mask)
        predicted = (probability.detach().float() > self.threshold)[:, 0].cpu().numpy()
        truth = (mask > 0.5)[:, 0].cpu().numpy()
        in_mm = spacing.double().cpu().numpy()
        rows = [_both_units(*case) for case in zip(predicted, truth, in_mm, strict=True)]
        values = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2)
        self.last = {"hd95": values[:, 0], "hd95_mm": values[:, 1]}
        self.add(self.last, {name: ~value.isnan() for name, value in self.last.items()})
        missed = truth.any((1, 2)) & ~predicted.any((1, 2))
        self.n_empty_predictions += int(missed.sum())

    def compute(self) -> dict[str, float]:
        """The two means, and `n_empty_predictions`."""
        return {**self.means(), "n_empty_predictions": int(self.n_empty_predictions)}


def _both_units(
    predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], spacing: Points
) -> tuple[float, float]:
    """HD95 of one case in pixels at 512 x 512 and in mm; NaN where it is not defined."""
    if not truth.any():
        return float("nan"), float("nan")
    size = np.array(truth.shape, dtype=np.float64)
    scales = [REFERENCE_SIZE / size, spacing]
    if not predicted.any():
        in_pixels, in_mm = (float(np.linalg.norm(size * scale)) for scale in scales)
        return in_pixels, in_mm
    outlines = outline(predicted), outline(truth)
    in_pixels, in_mm = (
        hausdorff95(*outlines, scale) if np.isfinite(scale).all() else float("nan")
        for scale in scales
    )
    return in_pixels, in_mm
