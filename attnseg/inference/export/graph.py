"""A model (or an ensemble) as ExportedProgram or ONNX, refused where its maps differ.

What is exported maps (xray, drr), each (B, 1, H, W) float32 and standardised, to (probability,
attention), likewise. B is free; H and W too, by steps of 32 px, where the model can do it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from attnseg.common.errors import ConfigError
from attnseg.inference.predictor import Predictor
from attnseg.nn.output import STRIDE

Format = Literal["exported_program", "onnx"]
SUFFIX = {"safetensors": ".safetensors", "exported_program": ".pt2", "onnx": ".onnx"}
INPUTS, OUTPUTS = ("xray", "drr"), ("probability", "attention")
OPSET = 18


def _log_sigmoid(logits: Tensor) -> Tensor:
    return logits.clamp(max=0) - torch.log1p(torch.exp(-logits.abs()))


def _log_add_exp(one: Tensor, other: Tensor) -> Tensor:
    return torch.maximum(one, other) + torch.log1p(torch.exp(-(one - other).abs()))


# torch.onnx writes these as Log(Sigmoid(x)) and Log(Exp(x) + Exp(y)): infinite for large numbers.
_STABLE = {
    torch.ops.aten.log_sigmoid.default: _log_sigmoid,
    torch.ops.aten.logaddexp.default: _log_add_exp,
}


class Exportable(nn.Module):
    """(xray, drr) -> (probability, attention), the mean over an ensemble's models.

    Args:
        predictor: its models; one pass of each.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.models = predictor.models
        self.with_attention = [bool(model.has_attention) for model in predictor.models]

    def forward(self, xray: Tensor, drr: Tensor) -> tuple[Tensor, Tensor]:
        """As `Predictor` without test-time augmentation."""
        outputs = [model(xray, drr) for model in self.models]
        probabilities = [output.mask_logits.float().sigmoid() for output in outputs]
        pairs = zip(outputs, self.with_attention, strict=True)
        maps = [output.attention.float() for output, counts in pairs if counts]
        maps = maps or [torch.zeros_like(probabilities[0])]
        return sum(probabilities) / len(probabilities), sum(maps) / len(maps)


@dataclass(frozen=True)
class Agreement:
    """How an exported file's maps compare with the model's.

    Attributes:
        shapes: of the inputs that were tried.
        max_abs_difference: of each output over all of them.
        dynamic_size: whether H and W are free.
    """

    shapes: Sequence[tuple[int, ...]]
    max_abs_difference: dict[str, float]
    dynamic_size: bool


Run = Callable[[Tensor, Tensor], Sequence[Tensor]]


def export_graph(
    predictor: Predictor,
    path: Path,
    form: Format,
    *,
    size: int,
    dynamic_size: Literal["auto", "always", "never"] = "auto",
    tolerance: float = 1e-4,
) -> Agreement:
    """Write the file and check it: loaded again, on other batches (and sizes) than it was made on.

    Args:
        predictor: whose models are exported.
        path: the file to write; what is there stays until a whole new one is.
        form: exported_program or onnx.
        size: px of the side that the model was trained at.
        dynamic_size: auto falls back to `size` alone where a model cannot do other sizes.
        tolerance: the largest difference that is accepted.

    Raises:
        ConfigError: the format's packages are missing, the model cannot be exported, or the maps
            differ by more than the tolerance; nothing is written then.
    """
    if form == "onnx":
        need_onnx()
    model = Exportable(predictor).eval().cpu()
    attempts = {"auto": (True, False), "always": (True,), "never": (False,)}[dynamic_size]
    temporary = path.with_name(f".{path.stem}.writing{path.suffix}")
    reason = ""
    try:
        for free in attempts:
            try:
                with _quiet():
                    _WRITERS[form](model, temporary, size, free)
                agreement = _compare(model, _LOADERS[form](temporary), size, free)
            except ConfigError:
                raise
            except Exception as error:  # torch.export and ONNX raise anything
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                continue
            _refuse_differing(agreement, path, tolerance)
            temporary.replace(path)
            return agreement
    finally:
        temporary.unlink(missing_ok=True)
    which = "with a free size (dynamic_size=never may do)" if dynamic_size == "always" else ""
    raise ConfigError(f"format={form}: this model cannot be exported {which}: {reason}")


def need_onnx() -> None:
    """Raise ConfigError where the packages of `attnseg[onnx]` are not installed."""
    import importlib.util

    missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(n)]
    if missing:
        raise ConfigError(f"format=onnx needs {', '.join(missing)}: install attnseg[onnx]")


def _export(model: nn.Module, size: int, free: bool) -> torch.export.ExportedProgram:
    example = tuple(torch.randn(2, 1, size, size) for _ in INPUTS)
    shape: dict[int, object] = {0: torch.export.Dim("batch", min=1, max=4096)}
    if free:
        for axis, name in ((2, "rows"), (3, "columns")):
            shape[axis] = STRIDE * torch.export.Dim(name, min=1, max=256)
    shapes = dict.fromkeys(INPUTS, shape)
    with torch.no_grad():
        program = torch.export.export(model, example, dynamic_shapes=shapes)
        stable: torch.export.ExportedProgram = program.run_decompositions(_STABLE)
    return stable


def _write_program(model: nn.Module, path: Path, size: int, free: bool) -> None:
    torch.export.save(_export(model, size, free), path)


def _write_onnx(model: nn.Module, path: Path, size: int, free: bool) -> None:
    program = torch.onnx.export(
        _export(model, size, free),
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(path, external_data=False)


def _load_program(path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda xray, drr: module(xray, drr)


def _load_onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def run(xray: Tensor, drr: Tensor) -> Sequence[Tensor]:
        feed = {"xray": xray.numpy(), "drr": drr.numpy()}
        given = {one.name for one in session.get_inputs()}
        made = session.run(list(OUTPUTS), {k: v for k, v in feed.items() if k in given})
        return [torch.from_numpy(np.asarray(one)) for one in made]

    return run


_WRITERS = {"exported_program": _write_program, "onnx": _write_onnx}
_LOADERS = {"exported_program": _load_program, "onnx": _load_onnx}


@torch.inference_mode()
def _compare(model: nn.Module, run: Run, size: int, free: bool) -> Agreement:
    """Run both on standardised noise of several shapes; a batch of one among them."""
    shapes = [(1, 1, size, size), (3, 1, size, size)]
    if free:
        shapes.append((2, 1, size + STRIDE, size))
    generator = torch.Generator().manual_seed(0)
    worst = dict.fromkeys(OUTPUTS, 0.0)
    for shape in shapes:
        xray, drr = (torch.randn(shape, generator=generator) for _ in INPUTS)
        for name, ours, theirs in zip(OUTPUTS, model(xray, drr), run(xray, drr), strict=True):
            difference = (ours - theirs).abs().max().item()
            worst[name] = max(worst[name], difference if difference == difference else np.inf)
    return Agreement(shapes, worst, free)


def _refuse_differing(agreement: Agreement, path: Path, tolerance: float) -> None:
    differing = {k: v for k, v in agreement.max_abs_difference.items() if v > tolerance}
    if differing:
        said = ", ".join(f"{name} by {value:.2g}" for name, value in differing.items())
        raise ConfigError(
            f"{path}: not written: the exported maps differ from the model's ({said}), more than "
            f"tolerance={tolerance:g}"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' progress lines and warnings; errors still raise."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
