from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnseg.common.errors import ConfigError
from attnseg.nn.attention.anatomical import AnatomicalAttention
from attnseg.nn.attention.base import normalised_softmax
from attnseg.nn.attention.drr import DrrAttention

from .helpers import dual_model, images


def centre_of_mass(weights: Tensor) -> tuple[float, float]:
    weights = weights.flatten(0, -3).sum(0) if weights.ndim > 2 else weights
    rows = torch.arange(weights.shape[0], dtype=weights.dtype)
    columns = torch.arange(weights.shape[1], dtype=weights.dtype)
    total = weights.sum()
    return float((weights.sum(1) @ rows) / total), float((weights.sum(0) @ columns) / total)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), temperature=st.floats(0.05, 5.0), shift=st.floats(-30, 30))
def test_softmax_divided_by_its_maximum(seed: int, temperature: float, shift: float) -> None:
    logits = torch.randn(2, 1, 5, 7, generator=torch.Generator().manual_seed(seed)).double()
    expected = torch.softmax(logits.flatten(1) / temperature, dim=1)
    expected = (expected / expected.amax(1, keepdim=True)).view_as(logits)
    got = normalised_softmax(logits, temperature)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(normalised_softmax(logits + shift, temperature), got)
    assert (got.flatten(1).amax(1) == 1).all()


def test_smaller_temperature_is_sharper() -> None:
    logits = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    mass = [float(normalised_softmax(logits, t).sum()) for t in (0.1, 0.5, 2.0)]
    assert mass == sorted(mass)


def test_the_peak_is_a_constant_to_the_gradient() -> None:
    """Else the peak would pay, with the opposite sign, for what every other pixel gains."""
    logits = torch.tensor([[[[0.0, -1.0, -2.0]]]], requires_grad=True)
    normalised_softmax(logits, 0.5).sum().backward()
    assert logits.grad is not None
    expected = torch.exp(logits.detach() / 0.5) / 0.5
    torch.testing.assert_close(logits.grad, expected)


class Fixed(torch.nn.Module):
    """Stands for a trained trunk: gives the logits it is told to."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, pathways: object) -> Tensor:
        return self.logits


def test_anatomical_map_is_dark_in_the_background_and_lights_every_nodule_whole() -> None:
    logits = torch.full((1, 1, 512, 512), -8.0)
    logits[..., 100:119, 300:319] = 5.0
    logits[..., 100:119, 300:304] = 2.0  # an unsure rim
    logits[..., 400:412, 60:72] = 2.5  # a second, less sure nodule
    attention = AnatomicalAttention((8, 8, 8), (8, 8, 8), hidden_channels=8)
    attention.trunk = Fixed(logits)  # type: ignore[assignment]
    drr, _ = images(batch=1)
    got_logits, got = attention(drr, [], [])
    assert got_logits is logits
    assert got[logits > 0].min() > 0.75
    assert got[logits < 0].max() < 1e-5
    expected = (torch.sigmoid(logits) / torch.sigmoid(logits).max()) ** (1 / 0.5)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)
    mask = (logits > 0).float()[0, 0]
    for a, b in zip(centre_of_mass(got[0, 0]), centre_of_mass(mask), strict=True):
        assert abs(a - b) < 8


def test_supervised_map_is_the_probability() -> None:
    output = dual_model("supervised").eval()(*images())
    assert torch.equal(output.attention, torch.sigmoid(output.attention_logits))


@pytest.mark.parametrize(
    ("mechanism", "xray_counts"), [("supervised", False), ("drr", False), ("anatomical", True)]
)
def test_what_each_mechanism_looks_at(mechanism: str, xray_counts: bool) -> None:
    model = dual_model(mechanism).eval()
    xray, drr = images()
    other_xray, other_drr = images(seed=2)
    base = model(xray, drr).attention
    assert torch.equal(model(other_xray, drr).attention, base) != xray_counts
    assert not torch.equal(model(xray, other_drr).attention, base)


def test_without_attention_the_drr_is_not_looked_at() -> None:
    model = dual_model("none").eval()
    xray, drr = images()
    assert torch.equal(model(xray, drr).mask_logits, model(xray, drr + 1).mask_logits)
    assert not any("drr" in name or "fusion" in name for name, _ in model.named_parameters())


def test_a_drr_encoder_is_built_only_where_it_is_read() -> None:
    assert not any("drr_encoder" in name for name, _ in dual_model("drr").named_parameters())
    assert any("drr_encoder" in name for name, _ in dual_model("supervised").named_parameters())


@pytest.mark.parametrize("mechanism", ["drr", "supervised", "anatomical"])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_every_stride_gives_full_size_and_follows_the_image(mechanism: str, stride: int) -> None:
    """A shift of the images by 32 px shifts the map: no half-pixel or transposed resizing."""
    model = dual_model(mechanism, attention_stride=stride).eval()
    spot = torch.zeros(1, 1, 256, 256)
    spot[..., 70:80, 100:110] = 5.0
    logits = model(spot, spot).attention_logits
    moved = model(*[spot.roll((32, 64), (-2, -1))] * 2).attention_logits
    assert logits.shape == (1, 1, 256, 256)
    change = (logits - logits.median()).abs()
    change_moved = (moved - moved.median()).abs()
    row, column = centre_of_mass((change / change.max() > 0.5).float())
    row_moved, column_moved = centre_of_mass((change_moved / change_moved.max() > 0.5).float())
    assert row_moved - row == pytest.approx(32, abs=4)
    assert column_moved - column == pytest.approx(64, abs=4)


def test_attention_starts_at_a_low_prior() -> None:
    model = dual_model().eval()
    assert model(*images()).attention_logits.sigmoid().mean().item() < 0.1
    assert model(*images()).mask_logits.sigmoid().mean().item() < 0.1


def test_a_learned_temperature_is_trained_with_the_attention() -> None:
    model = dual_model(attention_learned_temperature=True, attention_temperature=0.25)
    named = dict(model.named_parameters())
    parameter = named["attention.temperature.log_value"]
    assert parameter.exp().item() == pytest.approx(0.25)
    assert any(parameter is other for other in model.parameter_groups()["attention"])
    model(*images()).attention.sum().backward()
    assert parameter.grad is not None and parameter.grad != 0


def test_a_fixed_temperature_is_no_parameter() -> None:
    names = [name for name, _ in dual_model(attention_temperature=0.25).named_parameters()]
    assert not any("temperature" in name for name in names)


def test_the_drr_mechanism_is_flat_on_a_flat_image_and_peaks_somewhere_else() -> None:
    attention = DrrAttention(stride=1, dropout=0.0).eval()
    _, peaked = attention(images()[1], [], [])
    assert peaked.flatten(1).amax(1).tolist() == [1.0, 1.0]
    assert peaked.mean() < 0.9


def test_a_stride_that_the_encoder_does_not_have_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"attention\.stride=8"):
        dual_model(encoder={"channels": [8, 8]}, attention_stride=8)


def test_pathways_may_differ_in_depth_and_width() -> None:
    model = dual_model(drr_encoder={"channels": [4, 8, 8]})
    assert model(*images()).attention.shape == (2, 1, 64, 64)


def test_temperature_is_what_the_config_says() -> None:
    attention = DrrAttention(temperature=2.0)
    assert attention.temperature().item() == pytest.approx(2.0)
    assert math.isclose(float(attention.temperature.log_value), math.log(2.0), rel_tol=1e-6)
