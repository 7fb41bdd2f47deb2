"""Models learn: a mask, and an attention that is where the mask is, from a toy problem."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from .helpers import dual_model

SIZE, BATCH, STEPS = 64, 8, 45


def blobs(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Discs of 3 to 6 px on noise, one or two a case -> X-ray, DRR, mask."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    mask = torch.zeros(BATCH, 1, SIZE, SIZE)
    for case in range(BATCH):
        for _ in range(1 + int(torch.randint(0, 2, (1,), generator=generator))):
            radius = 3 + 3 * torch.rand((), generator=generator)
            row, column = 8 + (SIZE - 16) * torch.rand(2, generator=generator)
            mask[case, 0] += (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    mask.clamp_(max=1)
    noise = torch.randn(2, *mask.shape, generator=generator)
    return 1.5 * mask + 0.7 * noise[0], 1.5 * mask + 0.7 * noise[1], mask


def dice(prediction: Tensor, mask: Tensor) -> float:
    overlap = (prediction * mask).sum((1, 2, 3))
    total = prediction.sum((1, 2, 3)) + mask.sum((1, 2, 3))
    return float((2 * overlap / total).mean())


@pytest.mark.parametrize("mechanism", ["supervised", "anatomical"])
def test_mask_and_attention_are_learned(mechanism: str) -> None:
    encoder = {"channels": [8, 16, 24, 32]}
    model = dual_model(mechanism, encoder=encoder, attention_hidden_channels=16).train()
    groups = model.parameter_groups()
    optimizer = torch.optim.AdamW(
        [{"params": groups[name], "lr": 4e-3} for name in ("backbone", "attention", "head")]
    )
    torch.manual_seed(0)
    for step in range(STEPS):
        xray, drr, mask = blobs(step)
        output = model(xray, drr)
        probability = torch.sigmoid(output.mask_logits)
        loss = F.binary_cross_entropy(probability, mask)
        loss = loss + 1 - 2 * (probability * mask).sum() / (probability.sum() + mask.sum())
        loss = loss + F.binary_cross_entropy_with_logits(output.attention_logits, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    xray, drr, mask = blobs(10_000)
    with torch.no_grad():
        output = model(xray, drr)
    assert dice((output.mask_logits > 0).float(), mask) > 0.8
    assert dice((output.attention > 0.5).float(), mask) > 0.5
    inside, outside = output.attention[mask > 0].mean(), output.attention[mask == 0].mean()
    assert inside > 0.5 and outside < 0.05
