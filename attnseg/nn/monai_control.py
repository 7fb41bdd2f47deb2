"""Any MONAI (or other importable) segmentation network as a control without attention."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from attnseg.common.errors import ConfigError
from attnseg.common.hidden import without_mlflow
from attnseg.common.initial_weights import without_initial_weights
from attnseg.component import Doc
from attnseg.nn.output import DualPathwayOutput, Group, SegmentationModel, check_input

_PROBE_SIZE = 64


class MonaiControl(SegmentationModel):
    """A plain segmentation network under the contract; its attention maps are constant zeros.

    The network must map (B, C, H, W) to logits (B, 1, H, W), C being 2 for `inputs=both` (X-ray,
    then DRR) and 1 otherwise; a forward pass on a tiny image checks that when it is built. Where
    a network returns several outputs (deep supervision) the first, by MONAI's habit the one at
    full size, is taken. All its parameters are in the group `head`: they start untrained, and
    that group has the base learning rate.

    Args:
        network: `{_target_: package.module.Class, **arguments}`.
        inputs: which images it sees.
        load_weights: False makes the network without initial weights that its arguments name,
            and downloads none.

    Raises:
        ConfigError: the class cannot be imported, does not take the arguments, or does not
            return logits of one channel.

    Example:
        >>> unet = {"_target_": "monai.networks.nets.BasicUNet", "spatial_dims": 2}
        >>> model = MonaiControl(network={**unet, "out_channels": 1}, inputs="xray")
        >>> image = torch.zeros(1, 1, 64, 64)
        >>> model(image, image).mask_logits.shape
        torch.Size([1, 1, 64, 64])
    """

    group_of_child: ClassVar[dict[str, Group]] = {"network": "head"}
    has_attention = False

    name = "monai"

    def __init__(
        self,
        *,
        network: Annotated[dict[str, Any], Doc("_target_: its class; beside it, arguments")],
        inputs: Annotated[Literal["xray", "drr", "both"], Doc("which images it sees")] = "xray",
        load_weights: bool = True,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.network = instantiate(network, load_weights=load_weights)
        self._probe(network)

    def forward(self, xray: Tensor, drr: Tensor) -> DualPathwayOutput:
        """Segment a batch; (B, 1, H, W), height and width multiples of 32."""
        check_input(xray, drr)
        mask_logits = _first(self.network(self._select(xray, drr))).float()
        zeros = torch.zeros_like(mask_logits)
        return DualPathwayOutput(mask_logits, zeros, zeros)

    def _select(self, xray: Tensor, drr: Tensor) -> Tensor:
        if self.inputs == "both":
            return torch.cat([xray, drr], dim=1)
        return xray if self.inputs == "xray" else drr

    def _probe(self, network: Mapping[str, Any]) -> None:
        """Run a tiny image through, so that a wrong shape is told before training starts."""
        size = _fixed_size(network)
        image = torch.zeros(1, 1, *size)
        target = network["_target_"]
        training = self.network.training
        self.network.eval()  # neither dropout's random numbers nor batch statistics are touched
        try:
            with torch.no_grad():
                logits = _first(self.network(self._select(image, image)))
        except ImportError as error:
            raise ConfigError(f"model.network: {target} lacks a package: {error}") from None
        except Exception as error:  # whatever the user's network raises
            raise ConfigError(
                f"model.network: {target} fails on an image of {self._channels()} channel(s), "
                f"{size[0]} x {size[1]}: {error}; with model.inputs={self.inputs} it needs "
                f"spatial_dims=2 and in_channels={self._channels()}"
            ) from None
        finally:
            self.network.train(training)
        if not isinstance(logits, Tensor) or logits.shape != image.shape:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f"model.network: {target} turns {tuple(image.shape)} into {shape}, but mask "
                "logits of one channel and the same size are needed (out_channels=1: one class, "
                "lesion or not)"
            )

    def _channels(self) -> int:
        return 2 if self.inputs == "both" else 1


def instantiate(network: Mapping[str, Any], *, load_weights: bool = True) -> nn.Module:
    """Make the module that `{_target_: dotted path, **keyword arguments}` names.

    What a file names has passed `attnseg.config.trust` before.

    Raises:
        ConfigError: nothing importable there, arguments that it does not take (with the nearest
            name that it does) or refuses, or something that is no torch module.

    Example:
        >>> instantiate({"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 2})
        Linear(in_features=3, out_features=2, bias=True)
    """
    arguments = {key: value for key, value in network.items() if key != "_target_"}
    target = network.get("_target_")
    if not isinstance(target, str):
        raise ConfigError("model.network._target_: needed, e.g. monai.networks.nets.UNet")
    factory = _import(target)
    if not load_weights:
        arguments = without_initial_weights(arguments, _defaults(factory))
    _check_arguments(target, factory, arguments)
    try:
        module = factory(**arguments)
    except ImportError as error:
        raise ConfigError(f"model.network: {target} lacks a package: {error}") from None
    except Exception as error:  # whatever the constructor objects with
        raise ConfigError(f"model.network: {target} refuses its arguments: {error}") from None
    if not isinstance(module, nn.Module):
        raise ConfigError(f"model.network._target_: {target} makes no torch module")
    return module


def _import(target: str) -> Callable[..., Any]:
    module_name, _, name = target.rpartition(".")
    try:
        with without_mlflow():
            module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"model.network._target_: {target} cannot be imported: {error}") from None
    factory = getattr(module, name, None)
    if not callable(factory):
        close = difflib.get_close_matches(name, dir(module), n=1)
        hint = f"; did you mean {module_name}.{close[0]}?" if close else ""
        raise ConfigError(f"model.network._target_: {module_name} has no '{name}'{hint}")
    made: Callable[..., Any] = factory
    return made


def _defaults(factory: Callable[..., Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(factory).parameters.items()
    except ValueError:  # some built-in types have none
        return {}
    return {name: p.default for name, p in parameters if p.default is not p.empty}


def _check_arguments(
    target: str, factory: Callable[..., Any], arguments: Mapping[str, Any]
) -> None:
    """Refuse unknown and missing keyword arguments, all of them at once."""
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # some built-in types have none; their constructor will object
        return
    names = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    lines = []
    for key in arguments:
        if key not in names and not takes_any:
            close = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"it takes {', '.join(names)}"
            lines.append(f"  - model.network.{key}: no such argument; {hint}")
    lines += [
        f"  - model.network.{name}: needed, and not set"
        for name in names
        if parameters[name].default is inspect.Parameter.empty and name not in arguments
    ]
    if lines:
        raise ConfigError("\n".join([f"the arguments of {target} are wrong:", *lines]))


def _fixed_size(network: Mapping[str, Any]) -> tuple[int, int]:
    """The image size that a transformer is built for (`img_size`), or a small one."""
    size = network.get("img_size", _PROBE_SIZE)
    pair = [size, size] if isinstance(size, int) else list(size)
    return int(pair[0]), int(pair[-1])


def _first(output: Any) -> Any:
    """The output at full size of a network with deep supervision."""
    while isinstance(output, (list, tuple)) and output:
        output = output[0]
    if isinstance(output, Tensor) and output.ndim == 5:  # DynUNet in training: (B, heads, 1, H, W)
        return output[:, 0]
    return output
