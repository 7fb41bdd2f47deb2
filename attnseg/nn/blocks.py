"""Small parts that encoders, attention and decoder share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnseg.common.processes import place
from attnseg.component import Norm

PRIOR_LOGIT = -4.0
"""Bias of a new map's last layer: 1.8 % foreground, so that the first steps are not spent on
unlearning a half-white map (Lin et al., Focal Loss, 2017, section 4.1)."""


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """A normalisation over (B, C, H, W); `group` uses 8 groups, or the most that divide C.

    Example:
        >>> norm_layer("group", 12).num_groups
        4
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.GroupNorm(channels, channels)
    return nn.GroupNorm(math.gcd(8, channels), channels)


class ConvNormAct(nn.Sequential):
    """Convolution, normalisation, ReLU; (B, C_in, H, W) -> (B, C_out, H / stride, W / stride).

    Example:
        >>> ConvNormAct(1, 8, 3, stride=2)(torch.zeros(1, 1, 64, 64)).shape
        torch.Size([1, 8, 32, 32])
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, norm: Norm = "group"
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
            norm_layer(norm, outputs),
            nn.ReLU(inplace=True),
        )


class ChannelDropout(nn.Module):
    """Drops whole channels of a case (Tompson, CVPR 2015), as `nn.Dropout2d` does.

    Every process draws for the global batch and uses the rows of its own cases: with the same
    seed everywhere, one process and many drop the same channels of the same cases.

    Example:
        >>> ChannelDropout(0.5).eval()(torch.ones(1, 4, 1, 1)).flatten()
        tensor([1., 1., 1., 1.])
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape; the identity in evaluation."""
        if not self.training or self.probability == 0.0:
            return x
        rank, world_size = place()
        cases, channels = x.shape[:2]
        drawn = torch.rand(world_size * cases, channels, 1, 1, device=x.device)
        kept = drawn[rank * cases : (rank + 1) * cases] >= self.probability
        scale = 1.0 / (1.0 - self.probability) if self.probability < 1.0 else 0.0
        return x * (kept * scale).to(x.dtype)

    def extra_repr(self) -> str:
        """The probability, for print(model)."""
        return f"{self.probability}"


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity (He et al. 2016); the shape stays.

    Example:
        >>> ResidualBlock(8)(torch.zeros(1, 8, 16, 16)).shape
        torch.Size([1, 8, 16, 16])
    """

    def __init__(self, channels: int, *, norm: Norm = "group", dropout: float = 0.0) -> None:
        super().__init__()
        self.first = ConvNormAct(channels, channels, 3, norm=norm)
        self.dropout = ChannelDropout(dropout)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = norm_layer(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine features (B, C, H, W)."""
        return F.relu(x + self.norm(self.second(self.dropout(self.first(x)))))


def prior_conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """A convolution that makes logits, starting at the low prior `PRIOR_LOGIT`.

    Example:
        >>> prior_conv(8, 1, 3).bias.sigmoid()
        tensor([0.0180], grad_fn=<SigmoidBackward0>)
    """
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, PRIOR_LOGIT)
    return conv


class SubPixelHead(nn.Module):
    """Features at stride `scale` -> one map at full size, (B, C, h, w) -> (B, 1, scale h, scale w).

    A convolution makes scale^2 channels that are laid out as pixels (Shi et al. 2016): sharper
    than interpolation and far cheaper than features at full size. The sub-pixels start equal
    (Aitken et al. 2017), so that training begins without a checkerboard.

    Example:
        >>> SubPixelHead(8, 2)(torch.zeros(1, 8, 16, 16)).shape
        torch.Size([1, 1, 32, 32])
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.conv = prior_conv(channels, scale**2, 3)
        self.scale = scale
        with torch.no_grad():
            self.conv.weight.copy_(self.conv.weight[:1].expand_as(self.conv.weight).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Logits at full size."""
        return F.pixel_shuffle(self.conv(x), self.scale)


def upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear enlargement by a whole factor; pixel centres stay aligned.

    Example:
        >>> upsample(torch.zeros(1, 8, 16, 16), 4).shape
        torch.Size([1, 8, 64, 64])
    """
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
