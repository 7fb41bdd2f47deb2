"""From a feature pyramid back to a mask at full size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attnseg.component import Norm
from attnseg.nn.blocks import (
    ChannelDropout,
    ConvNormAct,
    SubPixelHead,
    prior_conv,
    upsample,
)


class Decoder(nn.Module):
    """A U-Net decoder (Ronneberger et al. 2015) that stays cheap where pixels are many.

    Level i is `width` x 2^i channels wide, or as wide as its skip where that is narrower. What
    comes from below is projected to the level's width before it is enlarged, joined with the
    skip and mixed by a 3x3 convolution.

    Args:
        skips: channels of the pyramid, finest first.
        width: channels of the finest level.
        dropout: of whole channels, at the deepest level and before the head.

    Attributes:
        widths: channels of every level, finest first.

    Example:
        >>> decoder = Decoder([8, 16, 32], width=8)
        >>> pyramid = [torch.zeros(1, n, 128 // n, 128 // n) for n in (8, 16, 32)]
        >>> decoder(pyramid).shape
        torch.Size([1, 8, 16, 16])
    """

    def __init__(
        self, skips: Sequence[int], width: int, *, dropout: float = 0.0, norm: Norm = "group"
    ) -> None:
        super().__init__()
        widths = [min(width * 2**level, skip) for level, skip in enumerate(skips)]
        self.reduce = nn.ModuleList(
            nn.Conv2d(deeper, here, 1)
            for here, deeper in zip(widths, [*widths[1:-1], skips[-1]], strict=False)
        )
        self.project = nn.ModuleList(
            nn.Identity() if skip == here else nn.Conv2d(skip, here, 1)
            for here, skip in zip(widths[:-1], skips, strict=False)
        )
        self.mix = nn.ModuleList(ConvNormAct(2 * here, here, 3, norm=norm) for here in widths[:-1])
        self.dropout = ChannelDropout(dropout)
        self.widths = tuple(widths[:-1])
        self.channels = widths[0]

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Pyramid, finest first -> (B, channels, H / 2, W / 2)."""
        return self.levels(features, 1)[0]

    def levels(self, features: Sequence[Tensor], count: int) -> list[Tensor]:
        """The `count` finest levels, finest first: (B, widths[i], H / 2^(i + 1), W / 2^(i + 1))."""
        kept: list[Tensor] = []
        x: Tensor = self.dropout(features[-1])
        for level in reversed(range(len(self.mix))):
            below = upsample(self.reduce[level](x), 2)
            x = self.mix[level](torch.cat([below, self.project[level](features[level])], dim=1))
            if level < count:
                kept.insert(0, x)
        return kept


class SegmentationHead(nn.Sequential):
    """(B, channels, H / 2, W / 2) -> mask logits (B, 1, H, W).

    Example:
        >>> SegmentationHead(8)(torch.zeros(1, 8, 32, 32)).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__(ChannelDropout(dropout), SubPixelHead(channels, 2))


class AuxiliaryHeads(nn.Module):
    """Mask logits of the coarser decoder levels, for deep supervision (Lee et al., AISTATS 2015).

    One 1x1 convolution a level, as in nnU-Net (Isensee et al. 2021). Training alone looks at them.

    Args:
        widths: channels of the levels at strides 4, 8, ...

    Example:
        >>> heads = AuxiliaryHeads([8, 16])
        >>> [x.shape[-1] for x in heads([torch.zeros(1, 8, 16, 16), torch.zeros(1, 16, 8, 8)])]
        [16, 8]
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(prior_conv(width, 1, 1) for width in widths)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Features of these levels -> (B, 1, H / 4, W / 4), (B, 1, H / 8, W / 8), ..., float32."""
        return tuple(head(x).float() for head, x in zip(self.heads, levels, strict=True))
