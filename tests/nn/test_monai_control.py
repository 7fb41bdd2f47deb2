from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attnseg.build import build_model
from attnseg.common.errors import ConfigError
from attnseg.nn.monai_control import MonaiControl
from attnseg.nn.output import SegmentationModel

from .helpers import attention_config, images, monai_config


class TwoHeads(nn.Module):
    """A network with deep supervision: the map at full size first, then a coarse one."""

    def __init__(self, stacked: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.stacked = stacked

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        y = self.conv(x)
        return torch.stack([y, y + 1], dim=1) if self.stacked else [y, y[..., ::2, ::2]]


def build(inputs: str = "xray", **changes: object) -> SegmentationModel:
    return build_model(monai_config(inputs, **changes), attention_config("none"))


def control(**network: object) -> MonaiControl:
    return MonaiControl(network=network)


@pytest.mark.parametrize(
    ("inputs", "channels", "xray_counts", "drr_counts"),
    [("xray", 1, True, False), ("drr", 1, False, True), ("both", 2, True, True)],
)
def test_inputs(inputs: str, channels: int, xray_counts: bool, drr_counts: bool) -> None:
    model = build(inputs, in_channels=channels).eval()
    xray, drr = images()
    base = model(xray, drr).mask_logits
    assert torch.equal(model(-xray, drr).mask_logits, base) != xray_counts
    assert torch.equal(model(xray, -drr).mask_logits, base) != drr_counts


@pytest.mark.parametrize("stacked", [False, True])
def test_the_first_of_several_outputs_counts(stacked: bool) -> None:
    model = control(_target_=f"{__name__}.TwoHeads", stacked=stacked)
    xray, drr = images()
    assert torch.equal(model(xray, drr).mask_logits, model.network.conv(xray))


def test_building_leaves_training_mode_and_statistics_alone() -> None:
    model = build(norm="BATCH")
    assert model.network.training
    state = model.state_dict()
    counters = [value for key, value in state.items() if key.endswith("num_batches_tracked")]
    assert counters and all(int(value) == 0 for value in counters)


def test_a_mistyped_argument_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as error:
        build(out_chanels=1, in_channels=None)
    assert "model.network.out_chanels: no such argument; did you mean 'out_channels'?" in str(
        error.value
    )
    assert "model.network.in_channels: needed, and not set" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_target_": "monai.networks.nets.UNett"}, "did you mean monai.networks.nets.UNet"),
        ({"_target_": "no_such_package.Net"}, "no_such_package.Net cannot be imported"),
        ({"_target_": "Net"}, "cannot be imported"),
        ({"_target_": None}, "_target_: needed"),
        ({"strides": []}, "refuses its arguments"),
        ({"out_channels": 2}, r"\(1, 2, 64, 64\), but mask logits of one channel"),
        ({"in_channels": 3}, "spatial_dims=2 and in_channels=1"),
        ({"spatial_dims": 3}, "spatial_dims=2 and in_channels=1"),
    ],
)
def test_networks_that_do_not_fit_are_config_errors(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**changes)


def test_something_that_is_no_network() -> None:
    with pytest.raises(ConfigError, match="makes no torch module"):
        control(_target_="collections.OrderedDict")
