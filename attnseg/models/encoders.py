"""Feature pyramids of the two pathways."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from attnseg.config import EfficientNetName, EncoderConfig
from attnseg.models.blocks import ConvNormAct, Norm, ResidualBlock
from attnseg.models.efficientnet import EfficientNetLite
from attnseg.models.resnet import ResNet


class Encoder(nn.Module):
    """(B, 1, H, W) -> features at strides 2, 4, 8, ..., finest first.

    Attributes:
        channels: how many each level has.
    """

    channels: tuple[int, ...]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Level i is (B, channels[i], H / 2^(i + 1), W / 2^(i + 1))."""
        raise NotImplementedError


class LightEncoder(Encoder):
    """A residual pyramid small enough for a laptop's CPU, for nodules of about 20 px at 512 px.

    Nothing is computed at full size: a 5x5 convolution halves the image, so that a nodule of
    19 px still covers about 70 positions of the finest level, while the costliest layers see a
    quarter of the pixels. Each further level halves again with a strided 3x3 convolution and
    refines with residual blocks; the deepest (stride 32) sees the whole chest.
    """

    def __init__(self, channels: Sequence[int], blocks: int = 1, norm: Norm = "group") -> None:
        super().__init__()
        self.channels = tuple(channels)
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
    """ResNet-18 or -50; with `weights`, the Nodule map is one more channel of the deepest level.

    Args:
        config: `name` resnet18 or resnet50, and `weights`.
        load_weights: False reads no file, see `ResNet`.
    """

    def __init__(self, config: EncoderConfig, *, load_weights: bool = True) -> None:
        super().__init__()
        assert config.name in ("resnet18", "resnet50")
        self.resnet = ResNet(config.name, config.weights, load_weights=load_weights)
        *finer, deepest = self.resnet.channels
        self.channels = (*finer, deepest + int(self.resnet.has_nodule_row))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at strides 2, 4, 8, 16 and 32."""
        *finer, deepest = self.resnet(image)
        if self.resnet.has_nodule_row:
            deepest = torch.cat([deepest, self.resnet.nodule_evidence(deepest)], dim=1)
        return [*finer, deepest]


class EfficientNetEncoder(Encoder):
    """EfficientNet-Lite to stride 16; see `EfficientNetLite` for the arguments."""

    def __init__(
        self, name: EfficientNetName, weights: str | None, *, load_weights: bool = True
    ) -> None:
        super().__init__()
        self.network = EfficientNetLite(name, weights, load_weights=load_weights)
        self.channels = self.network.channels

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features at strides 2, 4, 8 and 16."""
        features: list[Tensor] = self.network(image)
        return features


def build_encoder(config: EncoderConfig, *, load_weights: bool = True) -> Encoder:
    """The encoder that the config names.

    Raises:
        CheckpointError: `weights` cannot be loaded.
    """
    if config.name == "light":
        return LightEncoder(config.channels, config.blocks, config.norm)
    if config.name == "resnet18" or config.name == "resnet50":
        return ResNetEncoder(config, load_weights=load_weights)
    return EfficientNetEncoder(config.name, config.weights, load_weights=load_weights)
