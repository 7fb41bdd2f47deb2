"""Feature pyramids of the two pathways."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from attnseg.component import Doc, Len, Norm, Positive
from attnseg.nn.blocks import ConvNormAct, ResidualBlock
from attnseg.nn.efficientnet import EfficientNetLite, EfficientNetName
from attnseg.nn.resnet import ResNet, ResNetName

Channels = Annotated[list[Positive], Len(2, 5), Doc("at strides 2, 4, 8, 16, 32")]
Weights = Annotated[
    str | None, Doc("a local state dict (.pt .pth .safetensors): torchvision, TorchXRayVision")
]
DecoderNorm = Annotated[Norm, Doc("of the decoder; the encoder's own is batch norm")]
EfficientNetWeights = Annotated[str | None, Doc("imagenet, or a local state dict")]


class Encoder(nn.Module):
    """(B, 1, H, W) -> features at strides 2, 4, 8, ..., finest first.

    Attributes:
        channels: how many each level has.
        norm: what a decoder on top of it should normalise with.

    Example:
        >>> class Pool(Encoder):
        ...     channels = (1, 1)
        ...     def forward(self, image):
        ...         half = nn.functional.avg_pool2d(image, 2)
        ...         return [half, nn.functional.avg_pool2d(half, 2)]
        >>> [x.shape[-1] for x in Pool()(torch.zeros(1, 1, 64, 64))]
        [32, 16]
    """

    channels: tuple[int, ...]
    norm: Norm = "group"

    def forward(self, image: Tensor) -> list[Tensor]:
        """Level i is (B, channels[i], H / 2^(i + 1), W / 2^(i + 1))."""
        raise NotImplementedError


class LightEncoder(Encoder):
    """A residual pyramid small enough for a laptop's CPU, for nodules of about 20 px at 512 px.

    Nothing is computed at full size: a 5x5 convolution halves the image, so that a nodule of
    19 px still covers about 70 positions of the finest level, while the costliest layers see a
    quarter of the pixels. Each further level halves again with a strided 3x3 convolution and
    refines with residual blocks; the deepest (stride 32) sees the whole chest.

    Example:
        >>> [tuple(x.shape[1:]) for x in LightEncoder(channels=[8, 16])(torch.zeros(1, 1, 64, 64))]
        [(8, 32, 32), (16, 16, 16)]
    """

    name = "light"

    def __init__(
        self,
        *,
        channels: Channels = [8, 32, 64, 96, 128],  # noqa: B006 - read, never written
        blocks: Annotated[Positive, Doc("residual blocks a level")] = 1,
        norm: Annotated[Norm, Doc("group: the same on one process and on many")] = "group",
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.norm = norm
        self.levels = nn.ModuleList()
        inputs = 1
        for outputs in channels:
            stem = inputs == 1
            self.levels.append(
                nn.Sequential(
                    ConvNormAct(inputs, outputs, 5 if stem else 3, stride=2, norm=norm),
                    *(ResidualBlock(outputs, norm=norm) for _ in range(0 if stem else blocks)),
                )
            )
            inputs = outputs

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features, finest first."""
        features = []
        x = image
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class ResNetEncoder(Encoder):
    """ResNet; with `weights`, the Nodule map is one more channel of the deepest level.

    Example:
        >>> ResNetEncoder("resnet18", None, load_weights=True).channels
        (64, 64, 128, 256, 512)
    """

    def __init__(self, depth: ResNetName, weights: str | None, *, load_weights: bool) -> None:
        super().__init__()
        self.resnet = ResNet(depth, weights, load_weights=load_weights)
        *finer, deepest = self.resnet.channels
        self.channels = (*finer, deepest + int(self.resnet.has_nodule_row))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at strides 2, 4, 8, 16 and 32."""
        *finer, deepest = self.resnet(image)
        if self.resnet.has_nodule_row:
            deepest = torch.cat([deepest, self.resnet.nodule_evidence(deepest)], dim=1)
        return [*finer, deepest]


class ResNet18Encoder(ResNetEncoder):
    """ResNet-18, see `ResNetEncoder`.

    Example:
        >>> ResNet18Encoder().channels
        (64, 64, 128, 256, 512)
    """

    name = "resnet18"

    def __init__(self, *, weights: Weights = None, load_weights: bool = True) -> None:
        super().__init__("resnet18", weights, load_weights=load_weights)


class ResNet50Encoder(ResNetEncoder):
    """ResNet-50, see `ResNetEncoder`.

    Example:
        >>> ResNet50Encoder().channels
        (64, 256, 512, 1024, 2048)
    """

    name = "resnet50"

    def __init__(self, *, weights: Weights = None, load_weights: bool = True) -> None:
        super().__init__("resnet50", weights, load_weights=load_weights)


class EfficientNetEncoder(Encoder):
    """EfficientNet-Lite to stride 16; see `EfficientNetLite` for the arguments.

    Example:
        >>> EfficientNetEncoder("efficientnet_lite0", None, "group", load_weights=True).channels
        (16, 24, 40, 112)
    """

    def __init__(
        self, size: EfficientNetName, weights: str | None, norm: Norm, *, load_weights: bool
    ) -> None:
        super().__init__()
        self.norm = norm
        self.network = EfficientNetLite(size, weights, load_weights=load_weights)
        self.channels = self.network.channels

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at strides 2, 4, 8 and 16."""
        features: list[Tensor] = self.network(image)
        return features


class EfficientNetLite0Encoder(EfficientNetEncoder):
    """EfficientNet-Lite0, see `EfficientNetEncoder`.

    Example:
        >>> EfficientNetLite0Encoder().channels
        (16, 24, 40, 112)
    """

    name = "efficientnet_lite0"

    def __init__(
        self,
        *,
        weights: EfficientNetWeights = None,
        norm: DecoderNorm = "group",
        load_weights: bool = True,
    ) -> None:
        super().__init__("efficientnet_lite0", weights, norm, load_weights=load_weights)


class EfficientNetLite1Encoder(EfficientNetEncoder):
    """EfficientNet-Lite1, see `EfficientNetEncoder`.

    Example:
        >>> EfficientNetLite1Encoder().channels
        (16, 24, 40, 112)
    """

    name = "efficientnet_lite1"

    def __init__(
        self,
        *,
        weights: EfficientNetWeights = None,
        norm: DecoderNorm = "group",
        load_weights: bool = True,
    ) -> None:
        super().__init__("efficientnet_lite1", weights, norm, load_weights=load_weights)


class EfficientNetLite2Encoder(EfficientNetEncoder):
    """EfficientNet-Lite2, see `EfficientNetEncoder`.

    Example:
        >>> EfficientNetLite2Encoder().channels
        (16, 24, 48, 120)
    """

    name = "efficientnet_lite2"

    def __init__(
        self,
        *,
        weights: EfficientNetWeights = None,
        norm: DecoderNorm = "group",
        load_weights: bool = True,
    ) -> None:
        super().__init__("efficientnet_lite2", weights, norm, load_weights=load_weights)
