from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch.nn.functional import binary_cross_entropy_with_logits

from attnseg.common.errors import ConfigError
from attnseg.losses.attention import AttentionLoss

from .helpers import Batch, batches, make_batch, perfect_batch

ALL = {"dice": 1.0}


def spatial_softmax(logits: torch.Tensor) -> torch.Tensor:
    shares = logits.flatten(1).softmax(1)
    return (shares / shares.amax(1, keepdim=True)).view_as(logits)


def test_bce_and_focal_are_on_the_logits_and_dice_on_the_map() -> None:
    batch = make_batch(0)
    attention = spatial_softmax(batch.attention_logits)
    value, parts = AttentionLoss(**ALL)(batch.attention_logits, attention, batch.mask)
    expected = binary_cross_entropy_with_logits(batch.attention_logits, batch.mask)
    torch.testing.assert_close(parts["bce"], expected)
    overlap = 2 * (attention * batch.mask).sum() + 1
    torch.testing.assert_close(
        parts["dice"], 1 - overlap / (attention.sum() + batch.mask.sum() + 1)
    )
    torch.testing.assert_close(value, parts["bce"] + parts["focal"] + parts["dice"])
    other, _ = AttentionLoss()(batch.attention_logits, 0 * attention, batch.mask)
    torch.testing.assert_close(other, parts["bce"] + parts["focal"])  # the map plays no part


def test_weights_and_parameters_reach_their_terms() -> None:
    batch = make_batch(5)
    inputs = (batch.attention_logits, batch.attention, batch.mask)
    loss = AttentionLoss(bce=2.0, focal=3.0, bce_pos_weight=4.0, focal_gamma=0.0, focal_alpha=None)
    value, parts = loss(*inputs)
    plain = binary_cross_entropy_with_logits(batch.attention_logits, batch.mask)
    torch.testing.assert_close(parts["focal"], plain)  # gamma 0 without balance is BCE
    assert parts["bce"] > plain  # lesions count four times
    torch.testing.assert_close(value, 2 * parts["bce"] + 3 * parts["focal"])
    assert set(AttentionLoss(bce=0.0)(*inputs).parts) == {"focal"}


@given(batches)
@settings(max_examples=30, deadline=None)
def test_laws(batch: Batch) -> None:
    loss = AttentionLoss(**ALL)
    logits = batch.attention_logits.requires_grad_()
    value, parts = loss(logits, logits.sigmoid(), batch.mask)
    assert all(part >= 0 for part in parts.values())
    value.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    for change in (lambda x: x.flip(-1), lambda x: x.flip(0)):
        changed, _ = loss(change(logits), change(logits.sigmoid()), change(batch.mask))
        torch.testing.assert_close(changed, value)


def test_zero_when_attention_is_the_mask() -> None:
    batch = perfect_batch(1)
    assert AttentionLoss(**ALL)(batch.attention_logits, batch.attention, batch.mask).value < 1e-4


def test_a_step_down_the_slope_moves_attention_to_the_lesion() -> None:
    mask = perfect_batch(1, size=1).mask
    logits = torch.zeros_like(mask, requires_grad=True)
    AttentionLoss()(logits, logits.sigmoid(), mask).value.backward()
    assert logits.grad is not None
    assert (logits.grad[mask > 0] < 0).all()
    assert (logits.grad[mask == 0] > 0).all()


def test_no_terms_are_refused() -> None:
    with pytest.raises(ConfigError, match="schedule=none"):
        AttentionLoss(bce=0.0, focal=0.0)
