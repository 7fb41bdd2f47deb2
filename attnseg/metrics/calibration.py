"""Whether a probability means what it says."""

from __future__ import annotations

import torch
from torch import Tensor

from attnseg.component import Measure
from attnseg.metrics.base import MeanOverCases, check_maps, wide


class BrierScore(MeanOverCases):
    """`brier`: mean squared difference of probability and mask over the pixels of a case.

    Brier 1950, doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2. Averaged over all cases; a
    network that predicts nothing anywhere scores the share of the images that is mask.

    >>> metric = BrierScore()
    >>> metric.update(torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, 1, 4, 4))
    >>> metric.compute()
    {'brier': 0.25}
    """

    name = "calibration"
    measures = {
        "brier": Measure(
            "mean squared difference of probability and mask over pixels; mean over all cases",
            False,
            evaluation=True,
        )
    }

    def __init__(self) -> None:
        super().__init__(["brier"])

    def update(self, probability: Tensor, mask: Tensor) -> None:
        """Add a batch: `probability` in [0, 1] and `mask` 0/1, both (B, 1, H, W)."""
        check_maps(probability, mask)
        off = wide(probability.detach().float() - (mask > 0.5).float())
        self.last = {"brier": off.square().flatten(1).mean(1)}
        self.add(self.last, {"brier": torch.ones(len(mask), dtype=torch.bool, device=mask.device)})

    def compute(self) -> dict[str, float]:
        """`brier`, NaN without cases."""
        return self.means()
