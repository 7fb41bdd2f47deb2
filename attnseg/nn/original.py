"""The first attempt's architecture, rebuilt from its public description as the baseline.

Kept as it was, faults included: the mask is made from features at stride 32 without skips, the
attention acts at stride 32 only, and the anatomical attention lifts 2048 channels to full size.
Batch norm and dropout are the original's. Two things are decided here:

- Of the original's two revisions one joined the nodule branch by a 1x1 convolution and the later
  one computed it and left it unused. It is joined here; otherwise its parameters would never get
  a gradient.
- `attention.stride` and `attention.learned_temperature` mean nothing here: the original works at
  full size with a constant temperature.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.component import Doc, attribute, provide
from attnseg.nn.attention.base import Attention, normalised_softmax
from attnseg.nn.attention.none import NoAttention
from attnseg.nn.blocks import ChannelDropout, ConvNormAct, ResidualBlock, upsample
from attnseg.nn.output import DualPathwayOutput, Group, SegmentationModel, check_input
from attnseg.nn.resnet import ResNet


def conv_norm_act(inputs: int, outputs: int, kernel: int) -> ConvNormAct:
    """Convolution, batch norm, ReLU, as everywhere in the original.

    Example:
        >>> conv_norm_act(1, 8, 3)(torch.zeros(2, 1, 16, 16)).shape
        torch.Size([2, 8, 16, 16])
    """
    return ConvNormAct(inputs, outputs, kernel, norm="batch")


def _drr_stack(hidden: int, dropout: float) -> nn.Sequential:
    """The DRR's convolutions, with the original's 32 and 16 channels at the default width."""
    return nn.Sequential(
        conv_norm_act(1, hidden, 7),
        ChannelDropout(dropout),
        conv_norm_act(hidden, hidden // 2, 5),
        ChannelDropout(dropout),
        nn.Conv2d(hidden // 2, 1, 3, padding=1),
    )


class OriginalAttention(nn.Module, ABC):
    """(DRR (B, 1, H, W), X-ray features (B, 2048, H/32, W/32)) -> (logits, map) at full size."""

    @abstractmethod
    def forward(self, drr: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Log-odds and the map in [0, 1]."""


class OriginalDrrAttention(OriginalAttention):
    """DRR alone, at full size, spatial softmax over the pixels normalised to [0, 1].

    Example:
        >>> logits, attention = OriginalDrrAttention()(torch.zeros(1, 1, 32, 32), None)
        >>> attention.shape
        torch.Size([1, 1, 32, 32])
    """

    def __init__(
        self, *, hidden_channels: int = 32, temperature: float = 0.5, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.stack = _drr_stack(hidden_channels, dropout)
        self.temperature = temperature

    def forward(self, drr: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The X-ray's features are not looked at."""
        logits = self.stack(drr).float()
        return logits, normalised_softmax(logits, self.temperature)


class OriginalSupervisedAttention(OriginalAttention):
    """DRR alone, at full size: 7x7 convolution, residual blocks, 3x3, 1x1, sigmoid.

    Example:
        >>> logits, attention = OriginalSupervisedAttention()(torch.zeros(1, 1, 32, 32), None)
        >>> attention.shape
        torch.Size([1, 1, 32, 32])
    """

    def __init__(self, *, hidden_channels: int = 32, blocks: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        hidden = hidden_channels
        self.stack = nn.Sequential(
            conv_norm_act(1, hidden, 7),
            *(ResidualBlock(hidden, norm="batch", dropout=dropout) for _ in range(blocks)),
            conv_norm_act(hidden, hidden // 2, 3),
            nn.Conv2d(hidden // 2, 1, 1),
        )

    def forward(self, drr: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The X-ray's features are not looked at."""
        logits = self.stack(drr).float()
        return logits, torch.sigmoid(logits)


class OriginalAnatomicalAttention(OriginalAttention):
    """DRR and X-ray features lifted to full size, fused, refined; temperature softmax.

    attention = clamp(0.1 H W softmax(l / T), 0, 1)^0.8. At 512 px and batch 2 the lifted
    features alone take 4 GiB, and their gradient as much again.

    Args:
        channels: of the X-ray features.
        lift: how many times the features are smaller than the image.
        hidden_channels: feature maps inside.
        temperature: small is sharp.
        dropout: of whole feature maps.

    Example:
        >>> attend = OriginalAnatomicalAttention(channels=8, lift=32).eval()
        >>> logits, attention = attend(torch.zeros(1, 1, 64, 64), torch.zeros(1, 8, 2, 2))
        >>> attention.shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        channels: int = 2048,
        lift: int = 32,
        *,
        hidden_channels: int = 32,
        temperature: float = 0.5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        hidden = hidden_channels
        self.lift = lift
        self.temperature = temperature
        self.drr_stack = _drr_stack(hidden, dropout)
        self.xray_stack = nn.Sequential(
            conv_norm_act(channels, hidden, 3),
            conv_norm_act(hidden, hidden // 2, 3),
            nn.Conv2d(hidden // 2, 1, 1),
        )
        self.fuse = nn.Sequential(conv_norm_act(2, 8, 3), nn.Conv2d(8, 1, 1))
        self.refine = nn.Sequential(conv_norm_act(1, 8, 5), nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, drr: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Both count."""
        lifted = self.xray_stack(upsample(features, self.lift))
        fused = self.fuse(torch.cat([self.drr_stack(drr), lifted], dim=1))
        logits = (fused + self.refine(fused)).float()
        pixels = logits.shape[-2] * logits.shape[-1]
        softmax = torch.softmax(logits.flatten(1) / self.temperature, dim=1).view_as(logits)
        # The floor keeps the gradient of x^0.8 finite where the softmax underflows to 0.
        return logits, (softmax * (0.1 * pixels)).clamp(1e-6, 1.0) ** 0.8


class NoduleBranch(nn.Module):
    """Features that know about nodules, (B, 2048, h, w) -> (B, 64, h, w).

    With TorchXRayVision's weights: its fixed Nodule map, then a 3x3 convolution. Without: a 3x3
    convolution of all features.

    Example:
        >>> resnet = ResNet("resnet18")
        >>> NoduleBranch(resnet).eval()(torch.zeros(1, 512, 2, 2), resnet).shape
        torch.Size([1, 64, 2, 2])
    """

    def __init__(self, resnet: ResNet) -> None:
        super().__init__()
        self.from_row = resnet.has_nodule_row
        self.conv = conv_norm_act(1 if self.from_row else resnet.channels[-1], 64, 3)

    def forward(self, features: Tensor, resnet: ResNet) -> Tensor:
        """The row is the encoder's, so the encoder comes along."""
        evidence = resnet.nodule_evidence(features) if self.from_row else features
        out: Tensor = self.conv(evidence)
        return out


class OriginalModel(SegmentationModel):
    """ResNet-50 on the X-ray, nodule branch, adaptation, attention, and a head without skips.

    adapted features x (1 + alpha x attention) at stride 32, then enlarged 2, 2 and 8 times.
    29.6 M parameters with `attention=drr` and no weights.

    Args:
        attention: makes the mechanism; each of ours stands for the original's own version of it.
        weights: a local TorchXRayVision state dict.
        alpha: how much attention adds to the features.
        freeze_early: train only the encoder's last stage, as the original did.
        load_weights: False reads no file (a checkpoint will fill the network).

    Raises:
        CheckpointError: the weights cannot be loaded or have no Nodule row.
        ConfigError: the original has no version of that attention.

    Example:
        >>> model = OriginalModel().eval()  # without attention
        >>> image = torch.zeros(1, 1, 64, 64)
        >>> model(image, image).mask_logits.shape
        torch.Size([1, 1, 64, 64])
    """

    name = "original"

    group_of_child: ClassVar[dict[str, Group]] = {
        "encoder": "backbone",
        "attention": "attention",
        "nodule": "head",
        "adapt": "head",
        "join": "head",
        "head": "head",
    }

    def __init__(
        self,
        attention: Callable[..., Attention] = NoAttention,
        *,
        weights: Annotated[str | None, Doc("a local TorchXRayVision state dict")] = None,
        alpha: Annotated[float, Doc("features x (1 + alpha x attention)")] = 0.3,
        freeze_early: Annotated[
            bool, Doc("train only the encoder's last stage, as the original did")
        ] = False,
        load_weights: bool = True,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.encoder = ResNet("resnet50", weights, load_weights=load_weights)
        if weights is not None and load_weights and not self.encoder.loaded_nodule_row:
            raise CheckpointError(
                f"model.weights: {weights} has no TorchXRayVision classifier with a Nodule "
                "row, which model=original is built on; for torchvision weights use "
                "model=dual_pathway model.encoder.name=resnet50"
            )
        channels = self.encoder.channels[-1]
        self.nodule = NoduleBranch(self.encoder)
        self.adapt = nn.Sequential(
            conv_norm_act(channels, 256, 3), ChannelDropout(0.2), conv_norm_act(256, 128, 1)
        )
        self.join = nn.Conv2d(128 + 64, 128, 1)
        self.attention = _build_attention(attention, channels)
        self.has_attention = self.attention is not None
        self.head = nn.Sequential(
            conv_norm_act(128, 64, 3),
            ChannelDropout(0.2),
            _Upsample(2),
            conv_norm_act(64, 32, 3),
            ChannelDropout(0.1),
            _Upsample(2),
            conv_norm_act(32, 16, 3),
            _Upsample(8),
            conv_norm_act(16, 8, 3),
            nn.Conv2d(8, 1, 1),
        )
        if freeze_early:
            self._freeze_early()

    def forward(self, xray: Tensor, drr: Tensor) -> DualPathwayOutput:
        """Segment a batch; (B, 1, H, W), height and width multiples of 32."""
        check_input(xray, drr)
        features = self.encoder(xray)[-1]
        adapted = torch.cat([self.adapt(features), self.nodule(features, self.encoder)], dim=1)
        adapted = self.join(adapted)
        if self.attention is None:
            mask_logits = self.head(adapted).float()
            zeros = torch.zeros_like(mask_logits)
            return DualPathwayOutput(mask_logits, zeros, zeros)
        logits, attention = self.attention(drr, features)
        coarse = F.interpolate(attention, adapted.shape[-2:], mode="bilinear", align_corners=False)
        lit = adapted * (1 + self.alpha * coarse)  # float32, whatever the weights are
        mask_logits = self.head(lit.to(next(self.head.parameters()).dtype)).float()
        return DualPathwayOutput(mask_logits, logits, attention)

    def _freeze_early(self) -> None:
        """Keep all but the encoder's last stage as loaded, which is how the original trained."""
        frozen = []
        for name, parameter in self.encoder.named_parameters(prefix="encoder"):
            if not name.startswith("encoder.layer4."):
                parameter.requires_grad_(False)
                frozen.append(name)
        self.never_trained = frozenset(frozen)


class _Upsample(nn.Module):
    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return upsample(x, self.factor)


_VERSIONS: dict[str, type[OriginalAttention]] = {
    "drr": OriginalDrrAttention,
    "supervised": OriginalSupervisedAttention,
    "anatomical": OriginalAnatomicalAttention,
}


def _build_attention(make: Callable[..., Any], channels: int) -> OriginalAttention | None:
    """The original's own version of a mechanism, without stride and learned temperature."""
    name = attribute(make, "name", None)
    if name == NoAttention.name:
        return None
    if name not in _VERSIONS:
        raise ConfigError(
            "model=original has its own versions of the attentions drr, supervised and anatomical, "
            "and takes no other; choose model=dual_pathway"
        )
    given = getattr(make, "keywords", {})
    return provide(_VERSIONS[name], channels=channels, **given)
