from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnseg.losses.combined import CombinedLoss

from .helpers import Batch, make_batch

Weights = dict[str, float | Tensor]
SOME: Weights = {"segmentation": 1.0, "attention": 0.4, "alignment": 0.1}
KEYS = {
    "segmentation/bce",
    "segmentation/dice",
    "segmentation/focal",
    "segmentation",
    "attention/bce",
    "attention/focal",
    "attention",
    "alignment",
    "total",
}


@pytest.fixture
def loss() -> CombinedLoss:
    return CombinedLoss()


def leaves(seed: int) -> Batch:
    batch = make_batch(seed)
    for tensor in (batch.mask_logits, batch.attention_logits, batch.attention):
        tensor.requires_grad_()
    return batch


def test_total_is_the_weighted_sum_of_the_groups(loss: CombinedLoss) -> None:
    batch = leaves(0)
    terms = loss(batch, batch.mask, SOME)
    assert set(terms) == KEYS
    assert all(term.shape == () for term in terms.values())
    torch.testing.assert_close(
        terms["total"], terms["segmentation"] + 0.4 * terms["attention"] + 0.1 * terms["alignment"]
    )
    torch.testing.assert_close(
        terms["segmentation"],
        terms["segmentation/bce"] + terms["segmentation/dice"] + terms["segmentation/focal"],
    )
    assert {name for name, term in terms.items() if term.requires_grad} == {
        "segmentation",
        "attention",
        "alignment",
        "total",
    }


def test_a_zero_weight_is_reported_without_a_backward(loss: CombinedLoss) -> None:
    batch = leaves(1)
    weights: Weights = {"segmentation": 1.0, "attention": 0.0, "alignment": 0.0}
    terms, all_on = loss(batch, batch.mask, weights), loss(batch, batch.mask, SOME)
    for name in ("attention", "attention/bce", "alignment"):
        assert not terms[name].requires_grad
        torch.testing.assert_close(terms[name], all_on[name].detach())
    terms["total"].backward()
    assert batch.mask_logits.grad is not None
    assert batch.attention_logits.grad is None  # never entered the graph
    assert batch.attention.grad is None


def test_attention_alone_leaves_segmentation_out_of_the_graph(loss: CombinedLoss) -> None:
    batch = leaves(1)
    loss(batch, batch.mask, {"segmentation": 0.0, "attention": 1.0, "alignment": 0.0})[
        "total"
    ].backward()
    assert batch.mask_logits.grad is None
    assert batch.attention_logits.grad is not None


def test_a_model_without_attention_has_segmentation_terms_only(loss: CombinedLoss) -> None:
    batch = leaves(2)
    terms = loss(batch, batch.mask, SOME, supervise_attention=False)
    assert set(terms) == {name for name in KEYS if name.startswith("segmentation")} | {"total"}
    torch.testing.assert_close(terms["total"], terms["segmentation"])


def test_weights_may_be_learned(loss: CombinedLoss) -> None:
    batch = leaves(3)
    weight = torch.tensor(0.4, requires_grad=True)
    terms = loss(batch, batch.mask, SOME | {"attention": weight})
    torch.testing.assert_close(terms["total"], loss(batch, batch.mask, SOME)["total"])
    terms["total"].backward()
    torch.testing.assert_close(weight.grad, terms["attention"].detach())


def test_an_infinite_term_of_weight_zero_does_not_poison_the_total(loss: CombinedLoss) -> None:
    batch = make_batch(0)
    batch.attention_logits[:] = torch.inf
    terms = loss(batch, batch.mask, {"segmentation": 1.0, "attention": 0.0, "alignment": 0.0})
    assert not terms["attention"].isfinite()
    assert terms["total"].isfinite()


@pytest.mark.parametrize("size", [1e4, -1e4, 0.0])
def test_all_empty_batches_and_huge_logits_are_finite(loss: CombinedLoss, size: float) -> None:
    logits = torch.full((2, 1, 16, 16), size, requires_grad=True)
    batch = Batch(logits, logits, logits.sigmoid(), torch.zeros(2, 1, 16, 16))
    terms = loss(batch, batch.mask, SOME)
    assert all(term.isfinite() for term in terms.values())
    terms["total"].backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_low_precision_change_nothing(loss: CombinedLoss, dtype: torch.dtype) -> None:
    low = make_batch(4, side=32).apply(lambda x: x.to(dtype))
    expected = loss(low.apply(Tensor.float), low.mask.float(), SOME)
    with torch.autocast("cpu", dtype=dtype):
        terms = loss(low, low.mask, SOME)
    for name, term in terms.items():
        assert term.dtype == torch.float32, name
        assert torch.equal(term, expected[name]), name


def test_every_group_is_named_in_the_weights(loss: CombinedLoss) -> None:
    batch = make_batch(0)
    with pytest.raises(AssertionError, match="segmentation"):
        loss(batch, batch.mask, {"segmentation": 1.0})


def test_it_has_no_state(loss: CombinedLoss) -> None:
    assert loss.state_dict() == {}
    assert not list(loss.parameters())
