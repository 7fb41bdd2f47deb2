from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnseg.build import build_model
from attnseg.common.errors import CheckpointError
from attnseg.config import component
from attnseg.nn.original import (
    OriginalAnatomicalAttention,
    OriginalDrrAttention,
    OriginalModel,
    OriginalSupervisedAttention,
)
from attnseg.nn.output import count_parameters

from .helpers import MECHANISMS, images
from .test_resnet_weights import synthetic


def original(mechanism: str = "drr", **changes: object) -> OriginalModel:
    config = component("model", {"name": "original", **changes})
    model = build_model(config, component("attention", {"name": mechanism}))
    assert isinstance(model, OriginalModel)
    return model


@pytest.fixture(scope="module")
def xrv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "xrv.pt"
    torch.save(synthetic("resnet50"), path)
    return path


def test_it_has_the_originals_size() -> None:
    with torch.device("meta"):
        model = original("drr")
    assert 29.5e6 < count_parameters(model.parameters()) < 29.7e6
    assert round(count_parameters(model.parameters()) / 1e6, 1) == 29.6
    groups = {name: count_parameters(group) for name, group in model.parameter_groups().items()}
    assert groups["backbone"] == 23_501_760
    assert groups["attention"] == (49 * 32 + 64) + (32 * 16 * 25 + 32) + (16 * 9 + 1)


def test_attention_modulates_at_stride_32_by_alpha() -> None:
    xray, drr = images()
    model = original("drr", alpha=0.0).eval()
    assert torch.equal(model(xray, drr).mask_logits, model(xray, -drr).mask_logits)
    model.alpha = 0.3
    assert not torch.equal(model(xray, drr).mask_logits, model(xray, -drr).mask_logits)


@pytest.mark.parametrize("kind", [OriginalDrrAttention, OriginalSupervisedAttention])
def test_drr_alone_at_full_size(kind: type) -> None:
    attention = kind(hidden_channels=8).eval()
    logits, values = attention(images()[1], torch.empty(0))
    assert logits.shape == values.shape == (2, 1, 64, 64)
    assert values.min() >= 0 and values.max() <= 1


def test_the_lifted_anatomical_attention() -> None:
    """clamp(0.1 H W softmax(l / 0.5), 0, 1)^0.8, with few channels in place of 2048."""
    attention = OriginalAnatomicalAttention(channels=8, hidden_channels=8).eval()
    logits, values = attention(images()[1], torch.randn(2, 8, 2, 2))
    softmax = torch.softmax(logits.flatten(1) / 0.5, 1).view_as(logits)
    torch.testing.assert_close(values, (softmax * 0.1 * 64 * 64).clamp(0, 1) ** 0.8)
    other, _ = attention(images()[1], torch.randn(2, 8, 2, 2))
    assert not torch.equal(logits, other)


def test_a_collapsed_softmax_has_a_finite_gradient() -> None:
    attention = OriginalAnatomicalAttention(channels=4, hidden_channels=8)
    features = 1e4 * torch.randn(2, 4, 2, 2)
    _, values = attention(1e4 * images()[1], features)
    values.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in attention.parameters() if p.grad is not None)


def test_every_mechanism_builds_its_own_version() -> None:
    with torch.device("meta"):
        models = {name: original(name) for name in MECHANISMS}
    assert {name: type(model.attention) for name, model in models.items()} == {
        "none": type(None),
        "drr": OriginalDrrAttention,
        "supervised": OriginalSupervisedAttention,
        "anatomical": OriginalAnatomicalAttention,
    }
    assert not models["none"].has_attention


def test_weights_bring_the_fixed_nodule_branch(xrv_file: Path) -> None:
    model = original(weights=str(xrv_file))
    assert model.nodule.conv[0].weight.shape == (64, 1, 3, 3)
    assert (
        model.encoder.nodule_weight.view(-1).tolist()
        == synthetic("resnet50")["fc.weight"][11].tolist()
    )
    model.eval()(*images())
    assert original().nodule.conv[0].weight.shape == (64, 2048, 3, 3)


def test_weights_without_the_row_are_refused(tmp_path: Path) -> None:
    torch.save(synthetic("resnet50", channels=3, classes=1000), tmp_path / "imagenet.pth")
    with pytest.raises(CheckpointError, match="no TorchXRayVision classifier"):
        original(weights=str(tmp_path / "imagenet.pth"))


def test_freezing_leaves_the_last_stage_to_train() -> None:
    model = original(freeze_early=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {n.split(".")[1] for n in trained if n.startswith("encoder.")} == {"layer4"}
    listed = [id(p) for group in model.parameter_groups().values() for p in group]
    assert set(listed) == {id(p) for p in model.parameters() if p.requires_grad}
    model(*images()).mask_logits.sum().backward()
    assert model.encoder.conv1.weight.grad is None
