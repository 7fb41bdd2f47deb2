"""ResNet-18 and -50 with torchvision's names, so that its state dicts and TorchXRayVision's fit.

Written out here because torchvision would drag in a second, CUDA build of torch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnseg.nn.weights import read_resnet_weights

ResNetName = Literal["resnet18", "resnet50"]

TORCHXRAYVISION_LIMIT = 1024.0
"""TorchXRayVision's networks expect grey values in [-1024, 1024]."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5 left).

    Example:
        >>> BasicBlock(64, 128, stride=2)(torch.zeros(2, 64, 8, 8)).shape
        torch.Size([2, 128, 4, 4])
    """

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, width, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided, as torchvision has it) and 1x1 convolutions and a shortcut.

    Example:
        >>> Bottleneck(64, 64, stride=1)(torch.zeros(2, 64, 8, 8)).shape
        torch.Size([2, 256, 8, 8])
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, 4 width, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
    )


_SHAPES: dict[ResNetName, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """A ResNet without its classifier: (B, 1, H, W) -> features at strides 2, 4, 8, 16, 32.

    With `weights`, a local TorchXRayVision or torchvision state dict is loaded and there is one
    more map, `nodule_evidence`, made by TorchXRayVision's Nodule classifier. The standardised
    image (mean 0, standard deviation 1) is scaled to what the weights were trained on:
    TorchXRayVision's [-1024, 1024], where +-2 standard deviations fill the range and more is
    clipped; torchvision's weights take it as it is. Batch norm, as the weights need it.

    Args:
        name: resnet18 or resnet50.
        weights: a .pt, .pth or .safetensors file; null starts from random weights.
        load_weights: False keeps the architecture that `weights` asks for and reads no file (a
            checkpoint will fill it).

    Raises:
        CheckpointError: the file is missing, unreadable, or of another network.

    Example:
        >>> [x.shape[-1] for x in ResNet("resnet18").eval()(torch.zeros(1, 1, 64, 64))]
        [32, 16, 8, 4, 2]
    """

    def __init__(self, name: ResNetName, weights: str | None = None, *, load_weights: bool = True):
        super().__init__()
        block, depths = _SHAPES[name]
        self.channels = (64, *(width * block.expansion for width in (64, 128, 256, 512)))
        self.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, (width, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True)):
            strides = [1 if stage == 0 else 2, *[1] * (depth - 1)]
            blocks = []
            for stride in strides:
                blocks.append(block(inputs, width, stride))
                inputs = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        _initialise(self)
        # Buffers: fixed knowledge that a checkpoint carries along, never trained.
        self.input_scale: Tensor
        self.nodule_weight: Tensor
        self.nodule_bias: Tensor
        self.register_buffer("input_scale", torch.tensor(1.0))
        self.has_nodule_row = weights is not None
        if self.has_nodule_row:
            self.register_buffer("nodule_weight", torch.zeros(1, inputs, 1, 1))
            self.register_buffer("nodule_bias", torch.zeros(1))
        self.loaded_nodule_row = False
        if weights is not None and load_weights:
            self._load(weights)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features, finest first; channels as in `self.channels`."""
        x = (x * self.input_scale).clamp(-TORCHXRAYVISION_LIMIT, TORCHXRAYVISION_LIMIT)
        stem = F.relu(self.bn1(self.conv1(x)), inplace=True)
        features = [stem]
        x = F.max_pool2d(stem, 3, stride=2, padding=1)
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{stage}")(x)
            features.append(x)
        return features

    def nodule_evidence(self, deepest: Tensor) -> Tensor:
        """The Nodule classifier applied at every place of the deepest features.

        Global average pooling and a linear row commute, so the map's mean before the sigmoid is
        the classifier's own logit (Zhou et al. 2016, class activation maps).

        Returns:
            (B, 1, H / 32, W / 32) in [0, 1]; 0.5 everywhere where the file had no such row.
        """
        return torch.sigmoid(F.conv2d(deepest, self.nodule_weight, self.nodule_bias))

    def _load(self, weights: str) -> None:
        own = {key: value for key, value in self.state_dict().items() if "." in key}
        pretrained = read_resnet_weights(weights, own)
        self.load_state_dict(pretrained.state, strict=False)
        self.input_scale.fill_(pretrained.input_scale)
        if pretrained.nodule is not None:
            weight, bias = pretrained.nodule
            self.nodule_weight.copy_(weight.view_as(self.nodule_weight))
            self.nodule_bias.copy_(bias.view_as(self.nodule_bias))
            self.loaded_nodule_row = True


def _initialise(network: nn.Module) -> None:
    """He initialisation of the convolutions, as torchvision does it."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
