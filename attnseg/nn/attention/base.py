"""What every attention mechanism returns, and what the spatial softmax ones share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from attnseg.component import Doc, Fraction, Gt, Positive

Hidden = Annotated[Positive, Doc("feature maps inside")]
Blocks = Annotated[Positive, Doc("residual refinement blocks")]
Stride = Annotated[Literal[1, 2, 4, 8], Doc("resolution at which attention is computed")]
SoftmaxTemperature = Annotated[float, Gt(0.0), Doc("small is sharp")]
Learned = Annotated[bool, Doc("true: starts at `temperature`")]
Dropout = Annotated[Fraction, Doc("of whole feature maps")]


class Attention(nn.Module, ABC):
    """(DRR image, pyramids of both pathways) -> (attention_logits, attention), (B, 1, H, W).

    Every mechanism returns log-odds (for supervision by the mask) and a map in [0, 1] (for fusion),
    both at full size. They are computed in float32 under mixed precision too: exponentials of
    half-precision logits lose the small values that keep the background dark.
    """

    reads_drr_features: ClassVar[bool] = True
    """Whether it looks at the DRR pathway's features; else no DRR encoder is built."""

    @abstractmethod
    def forward(
        self, drr: Tensor, drr_features: Sequence[Tensor], xray_features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Features come finest first, level i at stride 2^(i + 1)."""


def normalised_softmax(logits: Tensor, temperature: Tensor | float) -> Tensor:
    """Spatial softmax divided by its own maximum: exp((l - max l) / T), in (0, 1], 1 at the peak.

    The maximum is a constant to the gradient. With it, all that every pixel gains would be taken
    from the one pixel that happens to be the peak.

    Args:
        logits: (B, 1, H, W); the softmax runs over the pixels of each case.
        temperature: > 0; small is sharp.

    Example:
        >>> normalised_softmax(torch.tensor([[[[0.0, 1.0]]]]), temperature=1.0)
        tensor([[[[0.3679, 1.0000]]]])
    """
    peak = logits.amax(dim=(-2, -1), keepdim=True).detach()
    return torch.exp((logits - peak) / temperature)


class Temperature(nn.Module):
    """The softmax temperature: constant, or learned as its logarithm so that it stays above 0.

    Example:
        >>> Temperature(0.5, learned=True)()
        tensor(0.5000, grad_fn=<ExpBackward0>)
    """

    def __init__(self, temperature: float, *, learned: bool = False) -> None:
        super().__init__()
        value = torch.tensor(math.log(temperature))
        self.log_value: Tensor
        if learned:
            self.log_value = nn.Parameter(value)
        else:
            self.register_buffer("log_value", value, persistent=False)

    def forward(self) -> Tensor:
        """The temperature, a scalar."""
        return self.log_value.exp()
