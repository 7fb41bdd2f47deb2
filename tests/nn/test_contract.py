"""What DESIGN.md promises of every model, whatever is inside."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd

from attnseg.build import build_model
from attnseg.common.errors import ConfigError
from attnseg.config import component
from attnseg.nn.blocks import ChannelDropout
from attnseg.nn.output import DualPathwayOutput, SegmentationModel

from .helpers import MECHANISMS, attention_config, dual_model, images, monai_config

ORIGINAL = component("model", {"name": "original"})
BUILDERS: dict[str, Callable[[], SegmentationModel]] = {
    **{f"dual-{name}": (lambda name=name: dual_model(name)) for name in MECHANISMS},
    "dual-everything-learned": lambda: dual_model(attention_learned_temperature=True),
    "original-drr": lambda: build_model(ORIGINAL, attention_config("drr")),
    "monai": lambda: build_model(monai_config(), attention_config("none")),
}


@pytest.fixture(scope="module", params=BUILDERS)
def model(request: pytest.FixtureRequest) -> SegmentationModel:
    torch.manual_seed(0)
    return BUILDERS[request.param]()


def supervised_loss(output: DualPathwayOutput) -> torch.Tensor:
    """Every map has a say, as in training."""
    mask = torch.zeros_like(output.mask_logits)
    mask[..., 20:28, 30:40] = 1
    loss = F.binary_cross_entropy_with_logits(output.mask_logits, mask)
    loss = loss + F.binary_cross_entropy_with_logits(output.attention_logits, mask)
    return loss + F.mse_loss(output.attention, mask)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96)])
def test_maps_have_the_size_of_the_input(model: SegmentationModel, height: int, width: int) -> None:
    output = model(*images(height, width))
    for name, value in output._asdict().items():
        assert value.shape == (2, 1, height, width), name
        assert value.dtype == torch.float32, name
        assert torch.isfinite(value).all(), name
    assert output.attention.min() >= 0 and output.attention.max() <= 1


def test_attention_is_zero_exactly_where_there_is_none(model: SegmentationModel) -> None:
    output = model(*images())
    silent = bool((output.attention == 0).all() and (output.attention_logits == 0).all())
    assert silent == (not model.has_attention)


def test_groups_are_disjoint_and_complete(model: SegmentationModel) -> None:
    groups = model.parameter_groups()
    assert set(groups) == {"backbone", "attention", "head"}
    listed = [id(parameter) for group in groups.values() for parameter in group]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(parameter) for parameter in model.parameters()}
    assert bool(groups["attention"]) == model.has_attention


def test_groups_stay_when_a_schedule_freezes_parameters(model: SegmentationModel) -> None:
    before = {name: len(group) for name, group in model.parameter_groups().items()}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    after = {name: len(group) for name, group in model.parameter_groups().items()}
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    assert before == after


def test_every_parameter_gets_a_gradient(model: SegmentationModel) -> None:
    model.train().zero_grad()
    supervised_loss(model(*images())).backward()
    still = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert not still


def drops(model: torch.nn.Module) -> bool:
    """Whether a training step drops anything."""
    ours = any(isinstance(m, ChannelDropout) and m.probability > 0 for m in model.modules())
    return ours or any(isinstance(m, _DropoutNd) and m.p > 0 for m in model.modules())


def test_only_the_control_without_dropout_drops_nothing() -> None:
    assert {name: drops(build()) for name, build in BUILDERS.items()} == {
        name: name != "monai" for name in BUILDERS
    }


def test_dropout_draws_from_torch_alone(model: SegmentationModel) -> None:
    model.train()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(model(*images()).mask_logits)
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2]) != drops(model)


def test_evaluation_uses_no_random_numbers(model: SegmentationModel) -> None:
    model.eval()
    state = torch.get_rng_state()
    first, second = model(*images()), model(*images())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", BUILDERS)
def test_state_dict_round_trip(name: str) -> None:
    torch.manual_seed(1)
    one = BUILDERS[name]().eval()
    torch.manual_seed(2)
    other = BUILDERS[name]().eval()
    other.load_state_dict(one.state_dict())
    expected, got = one(*images()), other(*images())
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


@pytest.mark.parametrize("name", BUILDERS)
def test_the_seed_makes_the_weights(name: str) -> None:
    torch.manual_seed(3)
    one = BUILDERS[name]().state_dict()
    torch.manual_seed(3)
    other = BUILDERS[name]().state_dict()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 33)])
def test_sizes_off_the_grid_are_refused(model: SegmentationModel, height: int, width: int) -> None:
    with pytest.raises(AssertionError, match=f"multiples of 32, got {height} x {width}"):
        model(*images(height, width))


def test_shapes_that_do_not_belong_together_are_refused(model: SegmentationModel) -> None:
    xray, drr = images()
    with pytest.raises(AssertionError, match="not like xray"):
        model(xray, drr[:1])
    with pytest.raises(AssertionError, match=r"\(B, 1, H, W\)"):
        model(xray.expand(-1, 3, -1, -1), drr)


def test_a_control_refuses_an_attention_it_does_not_have() -> None:
    control = monai_config()
    with pytest.raises(ConfigError, match="add attention=none"):
        build_model(control, attention_config("anatomical"))


def test_low_precision_gives_float32_maps() -> None:
    model = dual_model().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(*images())
    assert {value.dtype for value in output} == {torch.float32}


def test_the_default_norm_does_not_mix_cases() -> None:
    """Group norm: what a case gets does not depend on its batch, hence not on the processes."""
    model = dual_model(dropout=0.0, attention_dropout=0.0).train()
    xray, drr = images(batch=3)
    together = model(xray, drr)
    alone = model(xray[1:2], drr[1:2])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b, atol=1e-5, rtol=1e-4)
