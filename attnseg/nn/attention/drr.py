"""The first attempt's mechanism: attention that nobody supervises."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from attnseg.nn.attention.base import (
    Attention,
    Dropout,
    Hidden,
    Learned,
    SoftmaxTemperature,
    Stride,
    Temperature,
    normalised_softmax,
)
from attnseg.nn.blocks import ChannelDropout, ConvNormAct, prior_conv, upsample


class DrrAttention(Attention):
    """A shallow stack on the DRR alone, spatial softmax over the pixels, as in the original.

    The DRR is averaged down to `stride` first; the original worked at full size, at `stride`^2
    times the cost and with a field of view smaller by `stride`.

    Example:
        >>> logits, attention = DrrAttention(hidden_channels=8)(torch.zeros(1, 1, 64, 64), [], [])
        >>> attention.shape
        torch.Size([1, 1, 64, 64])
    """

    name = "drr"
    reads_drr_features = False

    def __init__(
        self,
        *,
        hidden_channels: Hidden = 32,
        stride: Stride = 4,
        temperature: SoftmaxTemperature = 1.0,
        learned_temperature: Learned = False,
        dropout: Dropout = 0.1,
    ) -> None:
        super().__init__()
        half = max(hidden_channels // 2, 1)
        self.stride = stride
        self.temperature = Temperature(temperature, learned=learned_temperature)
        self.stack = nn.Sequential(
            ConvNormAct(1, hidden_channels, 7),
            ChannelDropout(dropout),
            ConvNormAct(hidden_channels, half, 5),
            ChannelDropout(dropout),
            prior_conv(half, 1, 3),
        )

    def forward(
        self, drr: Tensor, drr_features: Sequence[Tensor], xray_features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The features are not looked at."""
        logits = self.stack(F.avg_pool2d(drr, self.stride) if self.stride > 1 else drr)
        logits = upsample(logits.float(), self.stride)
        return logits, normalised_softmax(logits, self.temperature())
