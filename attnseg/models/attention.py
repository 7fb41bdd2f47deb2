"""Where to look: the attention mechanisms of the dual-pathway model.

Every mechanism returns log-odds (for supervision by the mask) and a map in [0, 1] (for fusion),
both at full size. They are computed in float32 under mixed precision too: exponentials of
half-precision logits lose the small values that keep the background dark.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnseg.config import AttentionConfig
from attnseg.errors import ConfigError
from attnseg.models.blocks import (
    ChannelDropout,
    ConvNormAct,
    ResidualBlock,
    prior_conv,
    upsample,
)


def normalised_softmax(logits: Tensor, temperature: Tensor | float) -> Tensor:
    """Spatial softmax divided by its own maximum: exp((l - max l) / T), in (0, 1], 1 at the peak.

    The maximum is a constant to the gradient. With it, all that every pixel gains would be taken
    from the one pixel that happens to be the peak.

    Args:
        logits: (B, 1, H, W); the softmax runs over the pixels of each case.
        temperature: > 0; small is sharp.
    """
    peak = logits.amax(dim=(-2, -1), keepdim=True).detach()
    return torch.exp((logits - peak) / temperature)


class Attention(nn.Module, ABC):
    """(DRR image, pyramids of both pathways) -> (attention_logits, attention), (B, 1, H, W)."""

    @abstractmethod
    def forward(
        self, drr: Tensor, drr_features: Sequence[Tensor], xray_features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Features come finest first, level i at stride 2^(i + 1)."""


class DrrAttention(Attention):
    """The original mechanism: a shallow stack on the DRR alone, spatial softmax over the pixels.

    The DRR is averaged down to `stride` first; the original worked at full size, at `stride`^2
    times the cost and with a field of view smaller by `stride`.
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        hidden = config.hidden_channels
        half = max(hidden // 2, 1)
        self.stride = config.stride
        self.temperature = Temperature(config)
        self.stack = nn.Sequential(
            ConvNormAct(1, hidden, 7),
            ChannelDropout(config.dropout),
            ConvNormAct(hidden, half, 5),
            ChannelDropout(config.dropout),
            prior_conv(half, 1, 3),
        )

    def forward(
        self, drr: Tensor, drr_features: Sequence[Tensor], xray_features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The features are not looked at."""
        logits = self.stack(F.avg_pool2d(drr, self.stride) if self.stride > 1 else drr)
        logits = upsample(logits.float(), self.stride)
        return logits, normalised_softmax(logits, self.temperature())


class SupervisedAttention(Attention):
    """DRR pathway alone, top-down fusion, residual refinement, sigmoid."""

    def __init__(self, config: AttentionConfig, drr_channels: Sequence[int]) -> None:
        super().__init__()
        self.trunk = TopDownMap(config, [drr_channels])

    def forward(
        self, drr: Tensor, drr_features: Sequence[Tensor], xray_features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The X-ray's features are not looked at."""
        logits = self.trunk([drr_features])
        return logits, torch.sigmoid(logits)


class AnatomicalAttention(Attention):
    """Both pathways, projected and fused top-down, residual refinement, temperature softmax.

    The softmax runs over log-probabilities, log sigmoid(l), rather than over the log-odds l:
    attention = exp((log p - max log p) / T) = (p / max p)^(1 / T). For unsure pixels (l << 0)
    the two are the same; for sure ones p saturates at 1, so that a nodule is lit as a whole and
    two nodules of one case both are, where exp((l - max l) / T) keeps only the surest pixel.
    """

    def __init__(
        self, config: AttentionConfig, drr_channels: Sequence[int], xray_channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.trunk = TopDownMap(config, [drr_channels, xray_channels])
        self.temperature = Temperature(config)

    def forward(
        self, drr: Tensor, drr_features: Sequence[Tensor], xray_features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Both pyramids count."""
        logits = self.trunk([drr_features, xray_features])
        return logits, normalised_softmax(F.logsigmoid(logits), self.temperature())


class Temperature(nn.Module):
    """The softmax temperature: constant, or learned as its logarithm so that it stays above 0."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        value = torch.tensor(math.log(config.temperature))
        self.log_value: Tensor
        if config.learned_temperature:
            self.log_value = nn.Parameter(value)
        else:
            self.register_buffer("log_value", value, persistent=False)

    def forward(self) -> Tensor:
        """The temperature, a scalar."""
        return self.log_value.exp()


class TopDownMap(nn.Module):
    """Pyramids -> one map of log-odds at full size.

    Level by level from the deepest to `stride`, the features of every pathway are projected to
    `hidden_channels` by a 1x1 convolution *before* they are enlarged, added to what came from
    below (Lin et al. 2017, feature pyramid networks) and mixed by a 3x3 convolution: a coarse
    level says what, the finer ones say where. Residual blocks refine at `stride`; only the
    single-channel map reaches full size.
    """

    def __init__(self, config: AttentionConfig, pathways: Sequence[Sequence[int]]) -> None:
        super().__init__()
        hidden = config.hidden_channels
        self.stride = config.stride
        self.first = max(self.stride.bit_length() - 2, 0)  # stride 2 is level 0
        if self.first >= min(map(len, pathways)):
            raise ConfigError(
                f"attention.stride={self.stride} is coarser than the deepest encoder level; "
                "give the encoder more channels or lower the stride"
            )
        deepest = max(map(len, pathways))
        self.projections = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(count, hidden, 1) for count in channels[self.first :])
            for channels in pathways
        )
        self.mix = nn.ModuleList(
            ConvNormAct(hidden, hidden, 3) for _ in range(deepest - self.first)
        )
        self.refine = nn.Sequential(
            *(ResidualBlock(hidden, dropout=config.dropout) for _ in range(config.blocks)),
            prior_conv(hidden, 1, 1),
        )

    def forward(self, pathways: Sequence[Sequence[Tensor]]) -> Tensor:
        """One pyramid a pathway, in the order of the constructor -> (B, 1, H, W)."""
        x: Tensor | None = None
        for level in reversed(range(len(self.mix))):
            parts = [] if x is None else [upsample(x, 2)]
            for projections, features in zip(self.projections, pathways, strict=True):
                assert isinstance(projections, nn.ModuleList)
                if level < len(projections):
                    parts.append(projections[level](features[level + self.first]))
            x = self.mix[level](functools.reduce(torch.add, parts))
        assert x is not None
        finest = 2 ** (self.first + 1)
        logits = self.refine(upsample(x, finest // min(finest, self.stride)))
        return upsample(logits.float(), self.stride)


def reads_drr_pathway(config: AttentionConfig) -> bool:
    """Whether the mechanism looks at the DRR pathway's features (else no DRR encoder is built)."""
    return config.name in ("supervised", "anatomical")


def build_attention(
    config: AttentionConfig, drr_channels: Sequence[int], xray_channels: Sequence[int]
) -> Attention | None:
    """The mechanism that the config names; `none` is None.

    Raises:
        ConfigError: the stride does not exist in the encoders.
    """
    if config.name == "drr":
        return DrrAttention(config)
    if config.name == "supervised":
        return SupervisedAttention(config, drr_channels)
    if config.name == "anatomical":
        return AnatomicalAttention(config, drr_channels, xray_channels)
    return None
