"""Random batches for the laws of the losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from attnseg.losses.segmentation import SegmentationLoss
from attnseg.metrics.lesions import EIGHT


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


def make_masks(seed: int, size: int, height: int, width: int, share: float) -> Tensor:
    """Masks (B, 1, H, W) of scattered pixels: many lesions, of which some touch; share 0: none."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(size, 1, height, width, generator=generator) < share).float()


masks = st.builds(
    make_masks,
    seed=st.integers(0, 2**31),
    size=st.integers(1, 4),
    height=st.integers(2, 12),
    width=st.integers(2, 12),
    share=st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.9, 1.0]),
)


def some_probability(mask: Tensor, seed: int = 0) -> Tensor:
    """Of no relation to the mask; a leaf of a graph."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(mask.shape, generator=generator).requires_grad_()


def assert_half_precision_changes_nothing(term: str, **settings: object) -> None:
    """A term alone, under autocast and of bfloat16: its value is float32's, its gradient finite."""
    weights = {"bce": 0, "dice": 0, "focal": 0, term: 2.0}
    loss = SegmentationLoss(**weights, **settings)
    mask = make_masks(3, 2, 32, 32, 0.02)
    low = (6.0 * some_probability(mask).detach() - 3.0).bfloat16()
    expected = loss(low.float(), mask).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, parts = loss(low.requires_grad_(), mask.bfloat16())
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    torch.testing.assert_close(value, 2.0 * parts[term])
    value.backward()
    assert low.grad is not None
    assert low.grad.isfinite().all()
    assert low.grad.any()


Maps = npt.NDArray[np.float64]


def blob_by_masking(p: Maps, y: Maps, alpha: float, beta: float, smooth: float) -> float:
    """The blob loss word by word: for every lesion, the image with the other lesions set to 0.

    With (alpha, beta, smooth) = (0.5, 0.5, 0.5) the overlap is Dice, smoothed by 1 px.
    """
    cases = []
    for probability, mask in zip(p[:, 0], y[:, 0], strict=True):
        labels, n = ndimage.label(mask, structure=EIGHT)
        terms = []
        for lesion in range(1, n + 1):
            target = labels == lesion
            seen = np.where((mask > 0) & ~target, 0.0, probability)
            tp, fp = (seen * target).sum(), (seen * ~target).sum()
            fn = ((1.0 - seen) * target).sum()
            terms.append(1.0 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth))
        if terms:
            cases.append(np.mean(terms))
    return float(np.mean(cases)) if cases else 0.0


def distance_by_search(y: Maps) -> Maps:
    """Signed distance in image diagonals, every pixel compared with every other."""
    result = np.zeros_like(y)
    rows, columns = (each.ravel() for each in np.indices(y.shape[-2:]))
    between = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    for case, mask in enumerate(y.reshape(len(y), -1) > 0):
        if mask.any() and not mask.all():
            other = mask[:, None] != mask
            nearest = np.where(other, between, np.inf).min(axis=1) - 0.5
            result[case] = np.where(mask, -nearest, nearest).reshape(y.shape[1:])
    return result / np.hypot(*y.shape[-2:])
