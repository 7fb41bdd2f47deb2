"""ResNet encoders, and state dicts in the shape of TorchXRayVision's and torchvision's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from attnseg.build import build_model, factory
from attnseg.common.errors import CheckpointError
from attnseg.config import component
from attnseg.nn.encoders import LightEncoder, ResNet18Encoder
from attnseg.nn.resnet import ResNet
from attnseg.nn.weights import TORCHXRAYVISION_PATHOLOGIES, read_resnet_weights

from .helpers import attention_config, dual_config, dual_model, images


def synthetic(name: str = "resnet18", channels: int = 1, classes: int = 18) -> dict[str, Tensor]:
    """A state dict of the right names and shapes, as torchvision's class would save it."""
    torch.manual_seed(7)
    network = ResNet(name)  # type: ignore[arg-type]
    state = {key: value.clone() for key, value in network.state_dict().items() if "." in key}
    if channels == 3:
        state["conv1.weight"] = torch.randn(64, 3, 7, 7)
    state["fc.weight"] = torch.randn(classes, network.channels[-1])
    state["fc.bias"] = torch.randn(classes)
    return state


def resnet(path: Path, name: str = "resnet18") -> ResNet:
    torch.manual_seed(99)
    return ResNet(name, str(path))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def xrv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "xrv.pt"
    torch.save(synthetic(), path)
    return path


def test_the_resnet50_is_torchvisions() -> None:
    """torchvision's resnet50 less its classifier (2 049 000) and two colours (6 272)."""
    count = sum(p.numel() for p in ResNet("resnet50").parameters())
    assert count == 25_557_032 - 2_049_000 - 2 * 64 * 49
    state = ResNet("resnet50").state_dict()
    assert state["conv1.weight"].shape == (64, 1, 7, 7)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert state["layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert state["layer3.5.bn2.running_var"].shape == (256,)
    assert sum(p.numel() for p in ResNet("resnet18").parameters()) == 11_689_512 - 513_000 - 6_272


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_pyramid(name: str) -> None:
    encoder = factory(component("encoder", {"name": name}))()
    features = encoder(images()[0])
    assert [x.shape[1] for x in features] == list(encoder.channels)
    assert [x.shape[-1] for x in features] == [32, 16, 8, 4, 2]


def test_light_pyramid() -> None:
    encoder = LightEncoder(channels=[4, 8, 12], blocks=2)
    features = encoder(images()[0])
    assert [tuple(x.shape[1:]) for x in features] == [(4, 32, 32), (8, 16, 16), (12, 8, 8)]


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_torchxrayvision_weights_load(tmp_path: Path, prefix: str, suffix: str) -> None:
    state = {prefix + key: value for key, value in synthetic().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if prefix else state, path)
    network = resnet(path)
    for key, value in synthetic().items():
        if not key.startswith("fc."):
            assert torch.equal(network.state_dict()[key], value), key
    assert float(network.input_scale) == 512.0
    assert network.loaded_nodule_row


def test_the_nodule_row_is_the_classifiers(tmp_path: Path) -> None:
    """The map's mean before the sigmoid is the classifier's own logit."""
    state = synthetic()
    state["fc.weight"] *= 1e-4  # far from the sigmoid's ends
    torch.save(state, tmp_path / "mild.pt")
    network = resnet(tmp_path / "mild.pt").eval()
    assert TORCHXRAYVISION_PATHOLOGIES.index("Nodule") == 11
    assert len(TORCHXRAYVISION_PATHOLOGIES) == 18
    deepest = network(images()[0])[-1]
    logit = deepest.mean((-2, -1)) @ state["fc.weight"][11] + state["fc.bias"][11]
    evidence = network.nodule_evidence(deepest)
    assert evidence.shape == (2, 1, 2, 2)
    torch.testing.assert_close(torch.logit(evidence).mean((1, 2, 3)), logit, atol=1e-3, rtol=1e-3)


def test_the_nodule_map_is_one_more_fixed_channel(xrv_file: Path) -> None:
    encoder = ResNet18Encoder(weights=str(xrv_file))
    assert encoder.channels[-1] == 513
    features = encoder(images()[0])
    assert features[-1].shape[1] == 513
    torch.testing.assert_close(
        features[-1][:, 512:], encoder.resnet.nodule_evidence(features[-1][:, :512])
    )
    assert not any("nodule" in name for name, _ in encoder.named_parameters())


def test_inputs_are_brought_to_the_range_of_the_weights(xrv_file: Path) -> None:
    network = resnet(xrv_file).eval()
    seen: list[Tensor] = []
    network.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.linspace(-4, 4, 32 * 32).view(1, 1, 32, 32))
    assert float(seen[0].min()) == -1024.0 and float(seen[0].max()) == 1024.0
    network(torch.full((1, 1, 32, 32), 0.5))
    assert float(seen[1].max()) == 256.0
    random = ResNet("resnet18").eval()
    random.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    random(torch.full((1, 1, 32, 32), 0.5))
    assert float(seen[2].max()) == 0.5


def test_three_channel_weights_answer_as_on_a_grey_image(tmp_path: Path) -> None:
    state = synthetic(channels=3, classes=1000)
    torch.save(state, tmp_path / "imagenet.pth")
    network = resnet(tmp_path / "imagenet.pth")
    assert not network.loaded_nodule_row and float(network.input_scale) == 1.0
    grey = images()[0]
    expected = torch.nn.functional.conv2d(
        grey.expand(-1, 3, -1, -1), state["conv1.weight"], stride=2, padding=3
    )
    torch.testing.assert_close(network.conv1(grey), expected, atol=1e-4, rtol=1e-4)


def test_a_checkpoint_restores_what_the_file_gave(xrv_file: Path) -> None:
    """Rebuilding for a checkpoint needs no weights file, and the architecture is the same."""
    encoder = {"name": "resnet18", "weights": str(xrv_file)}
    trained = dual_model("drr", encoder=encoder).eval()
    gone = dual_config(encoder={"name": "resnet18", "weights": "/nowhere.pt"})
    bare = build_model(gone, attention_config("drr"), load_weights=False).eval()
    bare.load_state_dict(trained.state_dict())
    expected, got = trained(*images()), bare(*images())
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_another_network_is_named_with_what_is_missing(tmp_path: Path, xrv_file: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        resnet(xrv_file, "resnet50")
    assert "missing: layer1.0.conv3.weight" in str(error.value)
    assert "of another shape: layer1.0.conv1.weight is (64, 64, 3, 3), not" in str(error.value)
    state = synthetic()
    del state["layer2.1.conv1.weight"]
    state["decoder.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError) as error:
        resnet(tmp_path / "odd.pt")
    assert "missing: layer2.1.conv1.weight\n" in str(error.value)
    assert "unexpected: decoder.weight\n" in str(error.value)
    assert "odd.pt" in str(error.value)


def test_old_files_without_batch_counters_load(tmp_path: Path) -> None:
    state = {k: v for k, v in synthetic().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "old.pt")
    assert resnet(tmp_path / "old.pt").loaded_nodule_row


def test_unreadable_files_are_user_errors(tmp_path: Path) -> None:
    expected = ResNet("resnet18").state_dict()
    with pytest.raises(CheckpointError, match="there is no file"):
        read_resnet_weights(tmp_path / "absent.pt", expected)
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match=r"junk\.pt"):
        read_resnet_weights(tmp_path / "junk.pt", expected)
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_resnet_weights(tmp_path / "junk.safetensors", expected)
    torch.save(torch.nn.Linear(1, 1), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="state_dict"):
        read_resnet_weights(tmp_path / "model.pt", expected)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_resnet_weights(tmp_path / "list.pt", expected)
