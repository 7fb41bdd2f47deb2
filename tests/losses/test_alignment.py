from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from torch import Tensor

from attnseg.losses.alignment import AlignmentLoss

from .helpers import Batch, batches, make_batch

KINDS = ("pearson", "dice", "mse")


def build(kind: str, detach: str = "none") -> AlignmentLoss:
    return AlignmentLoss(kind=kind, detach=detach)


def test_pearson_matches_scipy_per_case() -> None:
    batch = make_batch(0, size=4)
    probability = batch.mask_logits.sigmoid().numpy()
    expected = [
        1 - pearsonr(a.ravel(), p.ravel()).statistic
        for a, p in zip(batch.attention.numpy(), probability, strict=True)
    ]
    value = build("pearson")(batch.attention, batch.mask_logits)
    assert value.item() == pytest.approx(np.mean(expected), abs=1e-5)


def test_dice_and_mse_match_their_formulas() -> None:
    batch = make_batch(1)
    a, p = batch.attention.double().numpy(), batch.mask_logits.double().sigmoid().numpy()
    dice = 1 - (2 * (a * p).sum() + 1) / ((a**2).sum() + (p**2).sum() + 1)
    assert build("dice")(batch.attention, batch.mask_logits).item() == pytest.approx(dice, abs=1e-5)
    mse = ((a - p) ** 2).mean()
    assert build("mse")(batch.attention, batch.mask_logits).item() == pytest.approx(mse, abs=1e-6)


@given(batches, st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_laws(batch: Batch, kind: str) -> None:
    loss = build(kind)
    attention, logits = batch.attention.requires_grad_(), batch.mask_logits.requires_grad_()
    value = loss(attention, logits)
    assert -1e-5 < value < (2.00001 if kind == "pearson" else 1.00001)
    value.backward()
    for leaf in (attention, logits):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    for dim in (-1, 0):
        torch.testing.assert_close(loss(attention.flip(dim), logits.flip(dim)), value)
    # agreement is symmetric, and whole where the two are the same map
    swapped = loss(logits.sigmoid(), torch.logit(attention))
    torch.testing.assert_close(swapped, value, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_where_the_maps_agree(kind: str) -> None:
    logits = make_batch(2).mask_logits
    assert build(kind)(logits.sigmoid(), logits).abs() < 1e-5


def test_pearson_is_two_for_opposite_maps_and_blind_to_scale() -> None:
    logits = make_batch(2).mask_logits
    loss = build("pearson")
    assert loss(1 - logits.sigmoid(), logits).item() == pytest.approx(2.0, abs=1e-4)
    assert loss(0.2 + 0.5 * logits.sigmoid(), logits).item() == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size", [0.0, 1e4, -1e4])
def test_constant_maps_are_finite(kind: str, level: float, size: float) -> None:
    attention = torch.full((2, 1, 16, 16), level, requires_grad=True)
    logits = torch.full((2, 1, 16, 16), size, requires_grad=True)
    value = build(kind)(attention, logits)
    value.backward()
    assert value.isfinite()
    for leaf in (attention, logits):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    if kind == "pearson":
        assert value.item() == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize(
    ("detach", "moves_attention", "moves_segmentation"),
    [("none", True, True), ("attention", False, True), ("segmentation", True, False)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_detach(kind: str, detach: str, moves_attention: bool, moves_segmentation: bool) -> None:
    batch = make_batch(4)
    attention, logits = batch.attention.requires_grad_(), batch.mask_logits.requires_grad_()
    build(kind, detach)(attention, logits).backward()

    def moved(leaf: Tensor) -> bool:
        return leaf.grad is not None and bool(leaf.grad.any())

    assert (moved(attention), moved(logits)) == (moves_attention, moves_segmentation)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_computed_in_float32(kind: str) -> None:
    batch = make_batch(6)
    low = build(kind)(batch.attention.bfloat16(), batch.mask_logits.bfloat16())
    high = build(kind)(batch.attention.bfloat16().float(), batch.mask_logits.bfloat16().float())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, high)
