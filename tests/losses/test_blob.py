from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy import ndimage
from torch import Tensor

from attnseg.losses.blob import BlobLoss, find_lesions
from attnseg.losses.overlap import DiceLoss, TverskyLoss
from attnseg.metrics.lesions import EIGHT

from .helpers import assert_half_precision_changes_nothing, blob_by_masking, masks, some_probability

DICE = BlobLoss("dice", alpha=0.3, beta=0.7)  # takes no notice of the two
TVERSKY = BlobLoss("tversky", alpha=0.3, beta=0.7)
BOTH = pytest.mark.parametrize("loss", [DICE, TVERSKY], ids=["dice", "tversky"])
AS_TVERSKY = {"dice": (0.5, 0.5, 0.5), "tversky": (0.3, 0.7, 1.0)}


def squares(*places: tuple[int, int, int], side: int = 64) -> Tensor:
    """One case's mask (1, 1, side, side): squares by their row, column and side length."""
    mask = torch.zeros(1, 1, side, side)
    for row, column, length in places:
        mask[..., row : row + length, column : column + length] = 1.0
    return mask


@BOTH
@given(mask=masks)
@settings(max_examples=60, deadline=None)
def test_it_is_the_mean_over_lesions_of_the_image_without_the_others(
    loss: BlobLoss, mask: Tensor
) -> None:
    probability = some_probability(mask)
    value = loss(probability, mask)
    by_masking = blob_by_masking(
        probability.detach().double().numpy(), mask.double().numpy(), *AS_TVERSKY[loss.kind]
    )
    assert value.item() == pytest.approx(by_masking, abs=1e-5)


@BOTH
@given(mask=masks)
@settings(max_examples=40, deadline=None)
def test_laws(loss: BlobLoss, mask: Tensor) -> None:
    probability = some_probability(mask)
    value = loss(probability, mask)
    assert 0 <= value < 1
    value.backward()
    gradient = probability.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    lesion = mask > 0
    assert (gradient[lesion] < 0).all()  # every lesion pixel is pulled up,
    assert (gradient[~lesion] >= 0).all()  # and no other
    assert torch.equal(gradient.flatten(1).any(1), lesion.flatten(1).any(1))

    for axis in (-1, -2):
        torch.testing.assert_close(loss(probability.flip(axis), mask.flip(axis)), value)
    torch.testing.assert_close(loss(probability.flip(0), mask.flip(0)), value)
    torch.testing.assert_close(loss(probability.mT, mask.mT), value)
    assert loss(mask, mask) == 0
    if lesion.any():
        assert loss(1.0 - mask, mask) > 0.3


@pytest.mark.parametrize(
    ("loss", "plain"), [(DICE, DiceLoss()), (TVERSKY, TverskyLoss(0.3, 0.7))], ids=["dice", "tv"]
)
@pytest.mark.parametrize("place", [(0, 0, 1), (20, 30, 9), (0, 0, 64)])
def test_of_one_lesion_it_is_the_plain_loss(
    loss: BlobLoss, plain: torch.nn.Module, place: tuple[int, int, int]
) -> None:
    mask = squares(place)
    probability = some_probability(mask)
    torch.testing.assert_close(loss(probability, mask), plain(probability, mask))


@given(mask=masks)
@settings(max_examples=40, deadline=None)
def test_lesions_are_those_of_the_metrics(mask: Tensor) -> None:
    lesions = find_lesions(mask)
    expected = [ndimage.label(case, structure=EIGHT) for case in mask[:, 0].numpy()]
    assert lesions.n_in_case.tolist() == [n for _, n in expected]
    assert lesions.case.tolist() == np.repeat(np.arange(len(mask)), lesions.n_in_case).tolist()
    labels = torch.zeros(mask.numel(), dtype=torch.int64)
    labels[lesions.pixel] = lesions.lesion + 1
    start = 0
    for case, (theirs, n) in zip(labels.reshape(mask[:, 0].shape), expected, strict=True):
        ours = torch.where(case > 0, case - start, 0)
        assert np.array_equal(ours.numpy(), theirs)
        start += n


def test_a_missed_small_lesion_weighs_as_much_as_a_missed_large_one() -> None:
    large, small = squares((2, 2, 30)), squares((50, 50, 4))
    mask = large + small
    without_small, without_large = DICE(large, mask).item(), DICE(small, mask).item()
    assert without_small == pytest.approx(without_large, rel=0.1)
    assert without_small > 0.45
    assert DiceLoss()(large, mask) < 0.01  # which is why


def test_every_case_weighs_the_same_and_an_empty_one_nothing() -> None:
    one, three = squares((5, 5, 6)), squares((5, 5, 6), (20, 20, 6), (40, 40, 6))
    empty, quiet = torch.zeros_like(one), torch.full_like(one, 1e-3)
    missed = DICE(quiet, one)
    both = DICE(torch.cat([quiet, three, empty + 0.7]), torch.cat([one, three, empty]))
    torch.testing.assert_close(both, missed / 2)  # the second of the two with lesions is right


@BOTH
def test_without_a_lesion_it_is_zero_and_teaches_nothing(loss: BlobLoss) -> None:
    mask = torch.zeros(2, 1, 16, 16)
    probability = some_probability(mask)
    value = loss(probability, mask)
    value.backward()
    assert value == 0
    assert probability.grad is not None
    assert not probability.grad.any()


@pytest.mark.parametrize("kind", ["dice", "tversky"])
def test_half_precision_and_autocast_change_nothing(kind: str) -> None:
    assert_half_precision_changes_nothing("blob", blob_kind=kind)


def test_many_lesions_at_once() -> None:
    mask = torch.zeros(4, 1, 128, 128)
    mask[..., ::2, ::2] = 1.0  # 4096 lesions of a pixel in each
    value = TVERSKY(torch.full_like(mask, 0.5, requires_grad=True), mask)
    background = 0.5 * (128 * 128 - 4096)
    assert value.item() == pytest.approx(1 - 1.5 / (1.5 + 0.3 * background + 0.7 * 0.5), abs=1e-5)
