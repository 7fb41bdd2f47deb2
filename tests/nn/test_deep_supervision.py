"""Auxiliary heads of the decoder's coarser levels: there in training, nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnseg.build import factory
from attnseg.common.errors import ConfigError
from attnseg.config import component
from attnseg.nn.output import DeeplySupervisedOutput, DualPathwayOutput

from .helpers import MECHANISMS, dual_config, dual_model, images

HEADS = "auxiliary_heads."


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_coarse_logits_come_in_training_alone(mechanism: str) -> None:
    model = dual_model(mechanism, deep_supervision=3)
    output = model.train()(*images(64, 96))
    assert type(output) is DeeplySupervisedOutput
    assert output.mask_logits.shape == (2, 1, 64, 96)
    shapes = [tuple(logits.shape) for logits in output.deep_mask_logits]
    assert shapes == [(2, 1, 16, 24), (2, 1, 8, 12), (2, 1, 4, 6)]
    assert type(model.eval()(*images(64, 96))) is DualPathwayOutput
    assert type(dual_model(mechanism).train()(*images())) is DualPathwayOutput


def test_all_other_weights_and_maps_are_those_of_the_model_without() -> None:
    """To the bit, in training too: the heads come last and draw nothing."""
    with_heads, without = dual_model(deep_supervision=2), dual_model()
    state, plain = with_heads.state_dict(), without.state_dict()
    heads = [name for name in state if name.startswith(HEADS)]
    assert len(heads) == 4
    assert list(state) == [*plain, *heads]
    assert all(torch.equal(state[name], value) for name, value in plain.items())
    for training in (True, False):
        outputs = []
        for model in (with_heads, without):
            torch.manual_seed(5)
            outputs.append(model.train(training)(*images()))
        assert all(torch.equal(a, b) for a, b in zip(outputs[0][:3], outputs[1], strict=True))


def test_the_heads_are_trained_with_the_head() -> None:
    model = dual_model(deep_supervision=2)
    named = dict(model.named_parameters())
    group = {id(parameter) for parameter in model.parameter_groups()["head"]}
    assert all(id(named[name]) in group for name in named if name.startswith(HEADS))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_gradients_of_a_coarse_level_reach_it_and_what_is_below(level: int) -> None:
    model = dual_model("none", deep_supervision=3).train()
    model(*images()).deep_mask_logits[level - 1].square().sum().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.grad is not None)
    mixed = {int(name.split(".")[2]) for name in moved if name.startswith("decoder.mix.")}
    assert mixed == set(range(level, 4))
    assert not any(name.startswith("head.") for name in moved)
    heads = {name.split(".")[2] for name in moved if name.startswith(HEADS)}
    assert heads == {str(level - 1)}
    assert any(name.startswith("xray_encoder.levels.4.") for name in moved)


def test_every_parameter_gets_a_gradient() -> None:
    model = dual_model(deep_supervision=3).train()
    output = model(*images())
    maps = [*output[:3], *output.deep_mask_logits]
    torch.stack([(each - 0.1).square().mean() for each in maps]).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_half_precision_gives_float32_logits() -> None:
    model = dual_model(deep_supervision=1).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(*images())
    assert {logits.dtype for logits in output.deep_mask_logits} == {torch.float32}


@pytest.mark.parametrize(
    "encoder",
    [
        {"name": "light", "channels": [8, 8, 8]},
        {"name": "resnet18"},
        {"name": "resnet50"},
        {"name": "efficientnet_lite0"},
    ],
    ids=lambda encoder: str(encoder["name"]),
)
def test_as_many_levels_as_the_decoder_has_and_no_more(encoder: dict[str, Any]) -> None:
    with torch.device("meta"):
        levels = len(factory(component("encoder", encoder))().channels)
    most = levels - 2
    message = rf"^model\.deep_supervision={most + 1}: at most {most} with this encoder"
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        dual_model("none", encoder=encoder, deep_supervision=most + 1)
    with torch.device("meta"):
        model = dual_model("none", encoder=encoder, deep_supervision=most)
        maps = model.train()(*(image.to("meta") for image in images())).deep_mask_logits
    assert [logits.shape[-1] for logits in maps] == [16 >> level for level in range(most)]


def test_nonsense_is_refused() -> None:
    for value in (-1, 1.5, "two"):
        with pytest.raises(ValueError, match=r"deep_supervision\n +Input should be"):
            dual_config(deep_supervision=value)
    with pytest.raises(ConfigError, match="no coarser level"):
        dual_model(encoder={"channels": [8, 8]}, deep_supervision=1)
