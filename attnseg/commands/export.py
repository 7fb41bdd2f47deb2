"""`attnseg export`: a checkpoint's weights as safetensors, with the configuration beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnseg.commands.compose import compose_checked
from attnseg.commands.help import command_help, show, wants_help
from attnseg.config import ExportConfig
from attnseg.errors import ConfigError

OVERRIDES = (
    ("checkpoint=PATH", "a run folder (its best.ckpt) or a .ckpt"),
    ("output=FILE.safetensors", "default: <run folder>/export/<run name>.safetensors"),
)


def main(argv: Sequence[str]) -> int:
    """Write FILE.safetensors and FILE.yaml. Returns the exit code."""
    arguments = list(argv)
    if wants_help(arguments):
        purpose = "write a checkpoint's weights as safetensors, its configuration beside them"
        return show(command_help("export", purpose, (), OVERRIDES))
    config = compose_checked("export", arguments, ExportConfig)
    if config.output is not None and Path(config.output).suffix != ".safetensors":
        raise ConfigError(f"output={config.output}: give a file that ends in .safetensors")

    from attnseg.runs.checkpoints import export_safetensors, load_checkpoint
    from attnseg.runs.files import make_folder
    from attnseg.runs.identity import run_name
    from attnseg.runs.resume import home_of

    checkpoint = load_checkpoint(config.checkpoint)
    default = (
        home_of(checkpoint.path).path / "export" / f"{run_name(checkpoint.config)}.safetensors"
    )
    output = Path(config.output or default)
    make_folder(output.parent, "output")
    export_safetensors(checkpoint, output)
    print(f"weights: {output}\nconfig:  {output.with_suffix('.yaml')}")
    return 0
