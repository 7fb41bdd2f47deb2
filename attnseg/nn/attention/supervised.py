"""Attention from the DRR alone, made to be supervised by the mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attnseg.nn.attention.base import Attention, Blocks, Dropout, Hidden, Stride
from attnseg.nn.attention.trunk import TopDownMap


class SupervisedAttention(Attention):
    """DRR pathway alone, top-down fusion, residual refinement, sigmoid.

    Example:
        >>> attend = SupervisedAttention([8] * 5, hidden_channels=8)
        >>> pyramid = [torch.zeros(1, 8, side, side) for side in (32, 16, 8, 4, 2)]
        >>> logits, attention = attend(torch.zeros(1, 1, 64, 64), pyramid, [])
        >>> attention.shape
        torch.Size([1, 1, 64, 64])
    """

    name = "supervised"

    def __init__(
        self,
        drr_channels: Sequence[int],
        *,
        hidden_channels: Hidden = 32,
        blocks: Blocks = 2,
        stride: Stride = 4,
        dropout: Dropout = 0.1,
    ) -> None:
        super().__init__()
        self.trunk = TopDownMap(
            [drr_channels],
            hidden_channels=hidden_channels,
            blocks=blocks,
            stride=stride,
            dropout=dropout,
        )

    def forward(
        self, drr: Tensor, drr_features: Sequence[Tensor], xray_features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The X-ray's features are not looked at."""
        logits = self.trunk([drr_features])
        return logits, torch.sigmoid(logits)
