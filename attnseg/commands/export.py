"""`attnseg export`: a checkpoint as safetensors, ExportedProgram or ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnseg.commands.help import command_help, show, wants_help
from attnseg.common.errors import ConfigError
from attnseg.config import ExportConfig
from attnseg.config.compose import compose_checked

if TYPE_CHECKING:
    from attnseg.inference.export.graph import Agreement
    from attnseg.runs.checkpoints import LoadedCheckpoint

OVERRIDES = (
    ("checkpoint=PATH", "a run folder (its best.ckpt), a .ckpt or pretrained"),
    ("output=FILE.safetensors", "default: <run folder>/export/<run name>.safetensors"),
    ("trust=[mylab]", "networks of your own packages, which a checkpoint may name then"),
    ("format=exported_program", "a graph for torch without attnseg (.pt2), checked"),
    ("format=onnx", "a graph for ONNX runtimes (.onnx), checked; needs attnseg[onnx]"),
    ("checkpoint=[A,B,C]", "an ensemble in one file"),
    ("member=0", "one model of an ensemble alone"),
    ("half=true", "safetensors: parameters in half precision, half the file"),
    ("threshold=0.5", "to write into the file, e.g. an ensemble's best on validation cases"),
    ("paths=false", "leave out where data and runs lay, in a file for others"),
    ("tolerance=1e-4", "how much the graph's maps may differ from the model's"),
)
_SUFFIX = {"safetensors": ".safetensors", "exported_program": ".pt2", "onnx": ".onnx"}
CLASSES = ("background", "nodule")


def main(argv: Sequence[str]) -> int:
    """Write the file and, beside it, what is needed to use it. Returns the exit code."""
    arguments = list(argv)
    if wants_help(arguments):
        purpose = "write a checkpoint as safetensors, ExportedProgram or ONNX"
        return show(command_help("export", purpose, (), OVERRIDES))
    config = compose_checked("export", arguments, ExportConfig)
    if config.half and config.format != "safetensors":
        raise ConfigError(f"half=true is for format=safetensors, not for format={config.format}")
    if not config.paths and config.format != "safetensors":
        raise ConfigError(
            f"paths=false is for format=safetensors: format={config.format} keeps the source lines "
            "that each operation came from"
        )
    suffix = _SUFFIX[config.format]
    if config.output is not None and Path(config.output).suffix != suffix:
        raise ConfigError(
            f"output={config.output}: give a file that ends in {suffix} (format={config.format})"
        )

    from attnseg.common.files import make_folder
    from attnseg.evaluation.job import results_home
    from attnseg.runs.checkpoints import load_checkpoints, without_paths
    from attnseg.runs.identity import run_name

    members = load_checkpoints(config.checkpoint, trust=config.trust)
    if config.member is not None:
        if config.member >= len(members):
            which = f"are 0 to {len(members) - 1}" if len(members) > 1 else "is 0 alone"
            raise ConfigError(f"member={config.member}: what the checkpoint has {which}")
        members = [members[config.member]]
    if config.threshold is not None:
        members = [replace(member, threshold=config.threshold) for member in members]
    if not config.paths:
        members = [without_paths(member) for member in members]
    name = run_name(members[0].config) if len(members) == 1 else "ensemble"
    default = results_home(config.checkpoint, members) / "export" / f"{name}{suffix}"
    output = Path(config.output or default)
    make_folder(output.parent, "output")
    if config.format == "safetensors":
        from attnseg.runs.checkpoints import export_safetensors

        export_safetensors(members, output, half=config.half)
        print(f"weights: {output}\nconfig:  {output.with_suffix('.yaml')}")
        return 0
    return _export_graph(config, members, output)


def _export_graph(config: ExportConfig, members: Sequence[LoadedCheckpoint], output: Path) -> int:
    from attnseg.common.files import write_json
    from attnseg.inference.export.graph import export_graph
    from attnseg.inference.predictor import grid_of, predictor_of

    assert config.format != "safetensors"
    predictor = predictor_of(members)
    size = grid_of(members)
    if any(member.config.data.size != size for member in members):
        lines = [
            f"  - member {number}, {member.path}: {member.config.data.size} px"
            for number, member in enumerate(members)
        ]
        headline = (
            f"format={config.format}: members must share one data.size; take one by member=N:"
        )
        raise ConfigError("\n".join([headline, *lines]))
    agreement = export_graph(
        predictor,
        output,
        config.format,
        size=size,
        dynamic_size=config.dynamic_size,
        tolerance=config.tolerance,
    )
    beside = output.with_name(f"{output.name}.json")
    write_json(beside, _card(config, members, agreement, has_attention=predictor.has_attention))
    for name, value in agreement.max_abs_difference.items():
        print(
            f"largest difference from the model: {name} {value:.2g} (allowed {config.tolerance:g})"
        )
    if not agreement.dynamic_size:
        print(f"note: the graph takes {size} x {size} px only")
    print(f"graph:   {output}\nuse:     {beside}")
    return 0


def _card(
    config: ExportConfig,
    members: Sequence[LoadedCheckpoint],
    agreement: Agreement,
    *,
    has_attention: bool,
) -> dict[str, Any]:
    """What somebody without attnseg needs to know to use the graph."""
    from importlib.metadata import version

    from attnseg import __version__
    from attnseg.inference.export.graph import INPUTS, OPSET, OUTPUTS
    from attnseg.inference.predictor import threshold_of

    size = members[0].config.data.size
    free = agreement.dynamic_size
    sides = ["H, a multiple of 32", "W, a multiple of 32"] if free else [size, size]
    packages = ["torch"] + (["onnx", "onnxruntime"] if config.format == "onnx" else [])
    return {
        "format": config.format,
        **({"opset": OPSET} if config.format == "onnx" else {}),
        "attnseg": __version__,
        "versions": {name: version(name) for name in packages},
        "run_ids": [member.identity for member in members],
        "inputs": {name: {"dtype": "float32", "shape": ["B", 1, *sides]} for name in INPUTS},
        "outputs": {name: {"dtype": "float32", "range": [0, 1]} for name in OUTPUTS},
        "attention_means_something": has_attention,
        "classes": list(CLASSES),
        "threshold": threshold_of(members, None),
        "threshold_rule": "a pixel is of a nodule where its probability is strictly above it",
        "preprocessing": {
            "size_px": size,
            "steps": [
                "one grey channel, bright where radiation was absorbed (invert MONOCHROME1)",
                "without a DRR give the X-ray as both inputs",
                f"scale so that the longer side is {size} px, aspect kept, bilinear, antialiased",
                "subtract the image's own mean, divide by its own standard deviation",
                f"pad with 0 to {size} x {size} px, the image at the centre (less at top and left)",
            ],
        },
        "agreement": {
            "shapes": [list(shape) for shape in agreement.shapes],
            "max_abs_difference": agreement.max_abs_difference,
            "tolerance": config.tolerance,
        },
        "clinical_use": "no: a research tool",
    }
