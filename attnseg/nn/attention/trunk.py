"""From the feature pyramids of one or two pathways to a single-channel map at full size."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attnseg.common.errors import ConfigError
from attnseg.nn.blocks import ConvNormAct, ResidualBlock, prior_conv, upsample


class TopDownMap(nn.Module):
    """Pyramids -> one map of log-odds at full size.

    Level by level from the deepest to `stride`, the features of every pathway are projected to
    `hidden_channels` by a 1x1 convolution *before* they are enlarged, added to what came from
    below (Lin et al. 2017, feature pyramid networks) and mixed by a 3x3 convolution: a coarse
    level says what, the finer ones say where. Residual blocks refine at `stride`; only the
    single-channel map reaches full size.

    Example:
        >>> trunk = TopDownMap([[8] * 5], hidden_channels=8, blocks=1, stride=4, dropout=0.0)
        >>> pyramid = [torch.zeros(1, 8, side, side) for side in (32, 16, 8, 4, 2)]
        >>> trunk([pyramid]).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        pathways: Sequence[Sequence[int]],
        *,
        hidden_channels: int,
        blocks: int,
        stride: int,
        dropout: float,
    ) -> None:
        super().__init__()
        hidden = hidden_channels
        self.stride = stride
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
            *(ResidualBlock(hidden, dropout=dropout) for _ in range(blocks)),
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
