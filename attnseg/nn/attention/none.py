"""No attention: the control that sees the X-ray alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attnseg.nn.attention.base import Attention


class NoAttention(Attention):
    """No attention: the maps are constant zeros, left out of fusion, losses and metrics.

    Example:
        >>> logits, attention = NoAttention()(torch.ones(1, 1, 64, 64), [], [])
        >>> attention.shape, float(attention.max())
        (torch.Size([1, 1, 64, 64]), 0.0)
    """

    name = "none"
    reads_drr_features = False

    def __init__(self) -> None:
        super().__init__()

    def forward(
        self, drr: Tensor, drr_features: Sequence[Tensor], xray_features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Zeros."""
        zeros = torch.zeros_like(drr)
        return zeros, zeros
