from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from attnseg.common.errors import ConfigError
from attnseg.losses.segmentation import SegmentationLoss

from .helpers import (
    Batch,
    batches,
    blob_by_masking,
    distance_by_search,
    make_batch,
    perfect_batch,
)

TERMS = ("bce", "dice", "focal", "tversky", "focal_tversky", "blob")
ALL = {"tversky": 1.0, "focal_tversky": 1.0, "blob": 1.0, "boundary": 1.0}


def only(term: str, **parameters: float) -> SegmentationLoss:
    weights = dict.fromkeys(TERMS, 0.0) | {term: 1.0}
    return SegmentationLoss(**weights, **parameters)


def reference(batch: Batch, *, pos_weight: float, alpha: float) -> dict[str, float]:
    """Every term by its formula, in NumPy's float64."""
    x, y = batch.mask_logits.double().numpy(), batch.mask.double().numpy()
    p = 1.0 / (1.0 + np.exp(-x))
    pt, balance = np.where(y > 0, p, 1 - p), np.where(y > 0, 0.75, 0.25)
    weight = np.where(y > 0, pos_weight, 1.0)
    tp, fp, fn = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum()
    index = (tp + 1) / (tp + alpha * fp + 0.7 * fn + 1)
    return {
        "bce": float(-(weight * np.log(pt)).mean()),
        "dice": float(1 - (2 * tp + 1) / (p.sum() + y.sum() + 1)),
        "focal": float(-(balance * (1 - pt) ** 2.0 * np.log(pt)).mean()),
        "tversky": float(1 - index),
        "focal_tversky": float((1 - index) ** (1 / 1.33)),
        "blob": blob_by_masking(p, y, 0.5, 0.5, 0.5),
        "boundary": float((distance_by_search(y) * (p - y)).mean()),
    }


@pytest.mark.parametrize("seed", range(4))
def test_terms_match_their_formulas(seed: int) -> None:
    loss = SegmentationLoss(**ALL, bce_pos_weight=3.0, tversky_alpha=0.2)
    batch = make_batch(seed)
    value, parts = loss(batch.mask_logits, batch.mask)
    expected = reference(batch, pos_weight=3.0, alpha=0.2)
    assert parts.keys() == expected.keys()
    for name, part in parts.items():
        assert part.item() == pytest.approx(expected[name], rel=1e-4), name
    assert value.item() == pytest.approx(sum(expected.values()), rel=1e-4)


def test_terms_are_weighted_and_zero_leaves_one_out() -> None:
    batch = make_batch(1)
    value, parts = SegmentationLoss(bce=0.5, dice=2.0, focal=0.0)(batch.mask_logits, batch.mask)
    assert set(parts) == {"bce", "dice"}
    torch.testing.assert_close(value, 0.5 * parts["bce"] + 2.0 * parts["dice"])


def test_a_term_of_weight_zero_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(mask: torch.Tensor) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr("attnseg.losses.blob.find_lesions", refuse)
    monkeypatch.setattr("attnseg.losses.boundary.signed_distance", refuse)
    batch = make_batch(1)
    assert SegmentationLoss()(batch.mask_logits, batch.mask).value > 0
    for term in ("blob", "boundary"):
        with pytest.raises(AssertionError, match="computed"):
            only(term)(batch.mask_logits, batch.mask)


@given(batches)
@settings(max_examples=40, deadline=None)
def test_laws(batch: Batch) -> None:
    loss = SegmentationLoss(**ALL)
    logits = batch.mask_logits.requires_grad_()
    value, parts = loss(logits, batch.mask)
    assert all(part >= 0 for part in parts.values())
    value.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()

    order = torch.randperm(len(batch.mask), generator=torch.Generator().manual_seed(0))
    shuffled, _ = loss(logits[order], batch.mask[order])
    mirrored, _ = loss(logits.flip(-1), batch.mask.flip(-1))
    torch.testing.assert_close(shuffled, value)
    torch.testing.assert_close(mirrored, value)


@pytest.mark.parametrize("term", TERMS)
def test_perfect_prediction_costs_nothing_and_the_opposite_much(term: str) -> None:
    batch = perfect_batch(3)
    loss = only(term)
    assert loss(batch.mask_logits, batch.mask).value < 1e-4
    assert loss(-batch.mask_logits, batch.mask).value > 0.5


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("empty", [True, False])
def test_huge_logits_stay_finite(size: float, empty: bool) -> None:
    batch = perfect_batch(0)
    mask = torch.zeros_like(batch.mask) if empty else batch.mask
    logits = torch.full_like(mask, size, requires_grad=True)
    value, _ = SegmentationLoss(**ALL)(logits, mask)
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_bfloat16_is_computed_in_float32() -> None:
    batch = make_batch(2)
    low = batch.mask_logits.bfloat16()
    value, parts = SegmentationLoss(**ALL)(low, batch.mask.bfloat16())
    assert value.dtype == torch.float32
    assert {part.dtype for part in parts.values()} == {torch.float32}
    torch.testing.assert_close(value, SegmentationLoss(**ALL)(low.float(), batch.mask).value)


@pytest.mark.parametrize("term", ["dice", "tversky"])
def test_an_empty_case_adds_only_its_false_positives(term: str) -> None:
    batch = perfect_batch(0, size=1)
    empty = torch.zeros_like(batch.mask)
    together = only(term)(
        torch.cat([batch.mask_logits, empty - 30.0]), torch.cat([batch.mask, empty])
    )
    # averaged per case, the empty one would have added a term of its own
    torch.testing.assert_close(together.value, only(term)(batch.mask_logits, batch.mask).value)


def test_without_any_lesion_dice_counts_false_positive_pixels() -> None:
    loss, empty = only("dice"), torch.zeros(2, 1, 32, 32)
    quiet = torch.full_like(empty, -30.0)
    assert loss(quiet, empty).value < 1e-5
    quiet[0, 0, 0, :4] = 30.0
    assert loss(quiet, empty).value.item() == pytest.approx(1 - 1 / (1 + 4), abs=1e-4)
    logits = torch.zeros_like(empty, requires_grad=True)
    loss(logits, empty).value.backward()
    assert logits.grad is not None
    assert 0 < logits.grad.sum() < 0.01  # pushes down, and does not dominate


def test_tversky_prefers_false_positives_to_false_negatives() -> None:
    batch = perfect_batch(0, size=1)
    shifted = batch.mask_logits.roll(1, dims=-1)
    more = torch.maximum(batch.mask_logits, shifted)
    fewer = torch.minimum(batch.mask_logits, shifted)
    loss = only("tversky")
    assert loss(more, batch.mask).value < loss(fewer, batch.mask).value
    swapped = only("tversky", tversky_alpha=0.7, tversky_beta=0.3)
    assert swapped(more, batch.mask).value > swapped(fewer, batch.mask).value


def test_no_state_of_its_own() -> None:
    assert SegmentationLoss(**ALL).state_dict() == {}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"bce": 0, "dice": 0, "focal": 0}, "every term weighs 0"),
        ({"tversky_alpha": 0, "tversky_beta": 0}, "no error would count"),
    ],
)
def test_configurations_that_teach_nothing_are_refused(keys: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SegmentationLoss(**keys)
