"""What every model returns, and what every model can be asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from attnseg.common.errors import ConfigError

Group = Literal["backbone", "attention", "head"]

STRIDE = 32
"""Height and width of every input are multiples of this (`data.size` guarantees it)."""


class DualPathwayOutput(NamedTuple):
    """One forward pass, every map (B, 1, H, W) float32 at the size of the input.

    Attributes:
        mask_logits: log-odds of the mask.
        attention_logits: log-odds that attention supervision sees; zeros without attention.
        attention: where the model looks, in [0, 1]; zeros without attention.

    Example:
        >>> maps = torch.zeros(3, 2, 1, 64, 64)
        >>> DualPathwayOutput(*maps).attention.shape
        torch.Size([2, 1, 64, 64])
    """

    mask_logits: Tensor
    attention_logits: Tensor
    attention: Tensor


class DeeplySupervisedOutput(NamedTuple):
    """What a model with deep supervision returns in training, and only there.

    Attributes:
        mask_logits: as in `DualPathwayOutput`, like the two after it.
        attention_logits: as there.
        attention: as there.
        deep_mask_logits: of the coarser decoder levels, (B, 1, H / 4, W / 4) first, each further
            one half as high and wide; float32.

    Example:
        >>> maps, coarser = torch.zeros(3, 2, 1, 64, 64), torch.zeros(2, 1, 16, 16)
        >>> len(DeeplySupervisedOutput(*maps, (coarser,)).deep_mask_logits)
        1
    """

    mask_logits: Tensor
    attention_logits: Tensor
    attention: Tensor
    deep_mask_logits: tuple[Tensor, ...]


AnyOutput = DualPathwayOutput | DeeplySupervisedOutput


class SegmentationModel(nn.Module, ABC):
    """A network with the contract of DESIGN.md: (X-ray, DRR) -> `DualPathwayOutput`.

    A subclass names the parameter group of each of its children in `group_of_child`; parameters
    in `never_trained` belong to no group.
    """

    has_attention: bool
    """False: the attention maps are constant zeros, to be left out of losses and metrics."""

    group_of_child: ClassVar[dict[str, Group]]

    never_trained: frozenset[str] = frozenset()
    """Names of the parameters that were frozen for good when the model was built."""

    @abstractmethod
    def forward(self, xray: Tensor, drr: Tensor) -> AnyOutput:
        """Segment a batch: `xray` and `drr` (B, 1, H, W), standardised per image.

        In evaluation it is a `DualPathwayOutput`, whatever the model.
        """

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by group: backbone, attention, head; disjoint and complete.

        A group can be empty. What is in a group does not change when a schedule freezes it.
        """
        groups: dict[str, list[nn.Parameter]] = {"backbone": [], "attention": [], "head": []}
        for name, parameter in self.named_parameters():
            if name not in self.never_trained:
                groups[self.group_of_child[name.split(".", 1)[0]]].append(parameter)
        return groups


class ForeignModel(SegmentationModel):
    """Anybody's network under the contract.

    Args:
        network: (xray, drr) -> `DualPathwayOutput`, or mask logits alone. It may have
            `has_attention`, `never_trained` and `parameter_groups()`; without the last, all of it
            is in the group backbone.

    Raises:
        ConfigError: it is no torch module.

    Example:
        >>> class Blank(nn.Module):
        ...     def forward(self, xray, drr):
        ...         return torch.zeros_like(xray)
        >>> image = torch.ones(1, 1, 64, 64)
        >>> ForeignModel(Blank())(image, image).attention.shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ConfigError(f"model._target_: {type(network).__name__} is no torch module")
        self.network = network
        self.has_attention = bool(getattr(network, "has_attention", False))
        self.never_trained = frozenset(getattr(network, "never_trained", ()))

    def forward(self, xray: Tensor, drr: Tensor) -> AnyOutput:
        """Segment a batch; (B, 1, H, W), height and width multiples of 32."""
        check_input(xray, drr)
        output: Any = self.network(xray, drr)
        if isinstance(output, Tensor):
            zeros = torch.zeros_like(output, dtype=torch.float32)
            output = DualPathwayOutput(output.float(), zeros, zeros)
        if not isinstance(output, (DualPathwayOutput, DeeplySupervisedOutput)):
            raise ConfigError(
                f"model._target_: {type(self.network).__name__} must give a DualPathwayOutput or "
                f"mask logits, gave {type(output).__name__}"
            )
        if output.mask_logits.shape != xray.shape:
            raise ConfigError(
                f"model._target_: {type(self.network).__name__} turns {tuple(xray.shape)} into "
                f"{tuple(output.mask_logits.shape)}; mask logits are of the image's size"
            )
        return output

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The network's own, or all of it as backbone."""
        groups: dict[str, list[nn.Parameter]] = {"backbone": [], "attention": [], "head": []}
        own: Any = getattr(self.network, "parameter_groups", None)
        if own is not None:
            return groups | dict(own())
        return groups | {"backbone": list(self.network.parameters())}


def check_input(xray: Tensor, drr: Tensor, stride: int = STRIDE) -> None:
    """Assert the shapes that the contract promises, so that a mistake is named at the door.

    Example:
        >>> check_input(torch.zeros(1, 1, 64, 32), torch.zeros(1, 1, 64, 32))
        >>> check_input(torch.zeros(1, 1, 60, 60), torch.zeros(1, 1, 60, 60))
        Traceback (most recent call last):
        AssertionError: height and width must be multiples of 32, got 60 x 60
    """
    assert xray.ndim == 4 and xray.shape[1] == 1, f"xray must be (B, 1, H, W), got {xray.shape}"
    assert drr.shape == xray.shape, f"drr {tuple(drr.shape)} is not like xray {tuple(xray.shape)}"
    height, width = xray.shape[-2:]
    assert height % stride == 0 and width % stride == 0, (
        f"height and width must be multiples of {stride}, got {height} x {width}"
    )


def count_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """How many numbers the parameters hold.

    Example:
        >>> count_parameters(nn.Linear(3, 2).parameters())
        8
    """
    return sum(parameter.numel() for parameter in parameters)
