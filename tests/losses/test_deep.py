"""Deep supervision: targets at coarser strides, weights of the levels, the loss of a known case."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnseg.losses.combined import CombinedLoss
from attnseg.losses.deep import deeply_supervised, level_weights, mask_at
from attnseg.losses.overlap import DiceLoss
from attnseg.losses.segmentation import SegmentationLoss

from .helpers import make_batch

PLAIN = {"bce": 1.0, "dice": 1.0, "focal": 0.0}
EVERY = {"tversky": 1.0, "focal_tversky": 1.0, "blob": 1.0, "boundary": 1.0}


def test_every_level_weighs_half_of_the_finer_one() -> None:
    assert level_weights(1) == [1.0]
    assert level_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    for count in range(1, 6):
        assert sum(level_weights(count)) == pytest.approx(1.0)


def test_the_loss_of_a_known_case() -> None:
    """One lesion pixel in 8 x 8; strides 1, 4 and 8; probabilities of 1/2, 3/4 and 1/4."""
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 5, 2] = 1.0
    full = torch.zeros(1, 1, 8, 8)
    stride_4 = torch.full((1, 1, 2, 2), -math.log(3.0))
    stride_4[..., 1, 0] = math.log(3.0)
    stride_8 = torch.full((1, 1, 1, 1), -math.log(3.0))
    value, parts = deeply_supervised(SegmentationLoss(**PLAIN), full, [stride_4, stride_8], mask)
    bce, dice = math.log(2.0), 1 - (2 * 0.5 + 1) / (32 + 1 + 1)
    first = -math.log(0.75) + 1 - (2 * 0.75 + 1) / (0.75 + 3 * 0.25 + 1 + 1)
    second = -math.log(0.25) + 1 - (2 * 0.25 + 1) / (0.25 + 1 + 1)
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(
        {"bce": bce, "dice": dice, "deep_1": first, "deep_2": second}
    )
    assert value.item() == pytest.approx((4 * (bce + dice) + 2 * first + second) / 7)


@given(st.sets(st.tuples(st.integers(0, 31), st.integers(0, 15)), max_size=6), st.integers(0, 3))
def test_a_coarse_position_is_a_lesions_where_any_pixel_below_is(
    pixels: set[tuple[int, int]], level: int
) -> None:
    stride = 2 << level
    mask = torch.zeros(1, 1, 32, 16)
    for row, column in pixels:
        mask[0, 0, row, column] = 1.0
    coarse = mask_at(mask, (32 // stride, 16 // stride))
    wanted = {(row // stride, column // stride) for row, column in pixels}
    assert {(int(r), int(c)) for r, c in coarse[0, 0].nonzero()} == wanted
    assert set(coarse.unique().tolist()) <= {0.0, 1.0}


def test_an_overlap_would_teach_the_covered_share_of_a_tiny_lesion_to_be_background() -> None:
    """Why the target is no share."""
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 9:14, 9:13] = 1.0  # 20 px in one position at stride 8
    empty, found = torch.zeros(1, 1, 4, 4), mask_at(mask, (4, 4))
    share = torch.nn.functional.avg_pool2d(mask, 8)
    assert share.max() == pytest.approx(0.3125)
    dice = DiceLoss()
    assert dice(empty, share) < dice(share, share) and dice(empty, share) < dice(found, share)
    assert dice(found, found) < dice(empty, found)


def test_without_coarser_levels_nothing_changes() -> None:
    batch = make_batch(0)
    loss = SegmentationLoss(**EVERY)
    plain = loss(batch.mask_logits, batch.mask)
    none = deeply_supervised(loss, batch.mask_logits, (), batch.mask)
    assert torch.equal(plain.value, none.value)
    assert plain.parts.keys() == none.parts.keys()
    assert all(torch.equal(plain.parts[name], part) for name, part in none.parts.items())


def test_every_term_takes_the_coarse_targets_and_low_precision() -> None:
    batch = make_batch(1, side=32)
    deep = [torch.randn(len(batch.mask), 1, side, side).bfloat16() for side in (8, 4)]
    for logits in deep:
        logits.requires_grad_()
    value, parts = deeply_supervised(SegmentationLoss(**EVERY), batch.mask_logits, deep, batch.mask)
    assert value.dtype == torch.float32
    assert value.isfinite() and all(part.isfinite() for part in parts.values())
    value.backward()
    assert all(logits.grad is not None and logits.grad.abs().sum() > 0 for logits in deep)


def test_the_levels_share_the_weight_of_the_segmentation() -> None:
    loss, batch = CombinedLoss(), make_batch(2, side=32)
    deep = [torch.randn(len(batch.mask), 1, 8, 8, requires_grad=True)]
    weights = {"segmentation": 0.5, "attention": 0.4, "alignment": 0.1}
    terms = loss(batch, batch.mask, weights, deep_mask_logits=deep)
    plain = loss(batch, batch.mask, weights)
    assert set(terms) == {*plain, "segmentation/deep_1"}
    torch.testing.assert_close(
        terms["segmentation"], (2 * plain["segmentation"] + terms["segmentation/deep_1"]) / 3
    )
    difference = 0.5 * (terms["segmentation"] - plain["segmentation"])
    torch.testing.assert_close(terms["total"] - plain["total"], difference)
    off = loss(batch, batch.mask, weights | {"segmentation": 0.0}, deep_mask_logits=deep)
    assert not off["segmentation"].requires_grad
