"""Attention from both pathways."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from attnseg.nn.attention.base import (
    Attention,
    Blocks,
    Dropout,
    Hidden,
    Learned,
    SoftmaxTemperature,
    Stride,
    Temperature,
    normalised_softmax,
)
from attnseg.nn.attention.trunk import TopDownMap


class AnatomicalAttention(Attention):
    """DRR pathway and X-ray features, projected to few channels before they are enlarged, fused
    top-down, refined; temperature-scaled spatial softmax, normalised to [0, 1].

    The softmax runs over log-probabilities, log sigmoid(l), rather than over the log-odds l:
    attention = exp((log p - max log p) / T) = (p / max p)^(1 / T). For unsure pixels (l << 0)
    the two are the same; for sure ones p saturates at 1, so that a nodule is lit as a whole and
    two nodules of one case both are, where exp((l - max l) / T) keeps only the surest pixel.

    Example:
        >>> attend = AnatomicalAttention([8] * 5, [8] * 5, hidden_channels=8)
        >>> pyramid = [torch.zeros(1, 8, side, side) for side in (32, 16, 8, 4, 2)]
        >>> logits, attention = attend(torch.zeros(1, 1, 64, 64), pyramid, pyramid)
        >>> attention.shape
        torch.Size([1, 1, 64, 64])
    """

    name = "anatomical"

    def __init__(
        self,
        drr_channels: Sequence[int],
        xray_channels: Sequence[int],
        *,
        hidden_channels: Hidden = 32,
        blocks: Blocks = 2,
        stride: Stride = 4,
        temperature: SoftmaxTemperature = 0.5,
        learned_temperature: Learned = False,
        dropout: Dropout = 0.1,
    ) -> None:
        super().__init__()
        self.trunk = TopDownMap(
            [drr_channels, xray_channels],
            hidden_channels=hidden_channels,
            blocks=blocks,
            stride=stride,
            dropout=dropout,
        )
        self.temperature = Temperature(temperature, learned=learned_temperature)

    def forward(
        self, drr: Tensor, drr_features: Sequence[Tensor], xray_features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Both pyramids count."""
        logits = self.trunk([drr_features, xray_features])
        return logits, normalised_softmax(F.logsigmoid(logits), self.temperature())
