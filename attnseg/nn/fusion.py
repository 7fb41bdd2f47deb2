"""How attention acts on features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnseg.component import Doc


class AttentionFusion(nn.Module):
    """features x (1 + alpha x attention) at every scale, with an alpha a scale.

    The map is brought to a scale by taking the largest value under each position: averaging (or
    the original's bilinear sampling) would all but erase a nodule of 19 px at stride 32.

    Args:
        levels: how many scales.
        alpha: where every scale's starts.
        learned: whether training may change it.

    Example:
        >>> fuse = AttentionFusion(levels=1, alpha=0.5)
        >>> [fused] = fuse([torch.ones(1, 8, 32, 32)], torch.ones(1, 1, 64, 64))
        >>> float(fused.detach().max())
        1.5
    """

    name = "multiplicative"

    def __init__(
        self,
        levels: int,
        *,
        alpha: Annotated[float, Doc("where it starts, at every scale")] = 1.0,
        learned: Annotated[bool, Doc("one alpha a scale; false: stays as above")] = True,
    ) -> None:
        super().__init__()
        start = torch.full((levels,), float(alpha))
        self.alpha: Tensor
        if learned:
            self.alpha = nn.Parameter(start)
        else:
            self.register_buffer("alpha", start, persistent=False)

    def forward(self, features: Sequence[Tensor], attention: Tensor) -> list[Tensor]:
        """Modulate a pyramid.

        Args:
            features: finest first, level i at stride 2^(i + 1).
            attention: (B, 1, H, W) in [0, 1].
        """
        assert len(features) == len(self.alpha), "one alpha a level"
        fused = []
        for alpha, level in zip(self.alpha, features, strict=True):
            attention = F.max_pool2d(attention, 2)
            # The map is float32 whatever the weights are (bfloat16, say).
            fused.append((level * (1 + alpha * attention)).to(alpha.dtype))
        return fused
