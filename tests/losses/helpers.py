"""Random batches for the laws of the losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor


@dataclass
class Batch:
    """A model's output and the mask it is held against, all (B, 1, H, W)."""

    mask_logits: Tensor
    attention_logits: Tensor
    attention: Tensor
    mask: Tensor

    def apply(self, change: object) -> Batch:
        assert callable(change)
        return Batch(*(change(tensor) for tensor in vars(self).values()))


def make_batch(seed: int, size: int = 3, side: int = 9, scale: float = 3.0) -> Batch:
    """Noise, with a square lesion in about half of the cases."""
    generator = torch.Generator().manual_seed(seed)
    mask_logits, attention_logits = scale * torch.randn(2, size, 1, side, side, generator=generator)
    mask = torch.zeros(size, 1, side, side)
    for case in range(size):
        if torch.rand((), generator=generator) < 0.5:
            row, column = torch.randint(0, side - 2, (2,), generator=generator).tolist()
            mask[case, :, row : row + 3, column : column + 3] = 1.0
    return Batch(mask_logits, attention_logits, attention_logits.sigmoid(), mask)


def perfect_batch(seed: int, size: int = 3) -> Batch:
    """Sure of the truth: logits of +-30; the first case has a lesion."""
    mask = make_batch(seed, size).mask
    mask[0, :, 2:5, 2:5] = 1.0
    logits = 60.0 * mask - 30.0
    return Batch(logits, logits.clone(), logits.sigmoid(), mask)


batches = st.builds(
    make_batch,
    seed=st.integers(0, 2**31),
    size=st.integers(1, 4),
    side=st.integers(3, 12),
    scale=st.sampled_from([0.01, 1.0, 10.0]),
)
