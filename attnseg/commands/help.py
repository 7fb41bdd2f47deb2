"""`attnseg COMMAND --help`: groups and common overrides, read from conf/ without Hydra."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnseg.common.errors import ConfigError
from attnseg.common.paths import conf_dirs

if TYPE_CHECKING:
    from attnseg.config import Section

CHECKPOINT_OVERRIDES = (
    ("checkpoint=PATH", "a run folder (its best.ckpt), a .ckpt, a .safetensors or pretrained"),
    ("checkpoint=[A,B,C]", "an ensemble: the mean of their maps, on the grid of the first"),
    ("trust=[mylab]", "networks of your own packages, which a checkpoint may name then"),
)
"""Of the commands that run a trained model."""

_HELP_FLAGS = {"-h", "--help"}


def wants_help(argv: Sequence[str]) -> bool:
    """Whether help was asked for; Hydra's own `--hydra-help` is left to Hydra."""
    return any(argument in _HELP_FLAGS for argument in argv)


def group_options(group: str) -> list[str]:
    """The option names of one config group, those of one's own project included."""
    return sorted({path.stem for conf in conf_dirs() for path in (conf / group).glob("*.yaml")})


def command_help(
    command: str, purpose: str, groups: Sequence[str], overrides: Sequence[tuple[str, str]]
) -> str:
    """The help text of one command.

    Args:
        command: the words after `attnseg`.
        purpose: one sentence.
        groups: names of the config groups that the command reads.
        overrides: pairs of an example override and what it does.
    """
    lines = [f"attnseg {command}: {purpose}", "", f"usage: attnseg {command} [key=value ...]"]
    if groups:
        lines += ["", "Config groups (group=option):"]
        width = max(map(len, groups))
        for group in groups:
            options = group_options(group)
            lines.append(f"  {group:<{width}}  {' | '.join(options) if options else '(none yet)'}")
    if overrides:
        lines += ["", "Common overrides:"]
        width = min(46, max(len(key) for key, _ in overrides))
        lines += [f"  {key:<{width}}  {text}" for key, text in overrides]
    return "\n".join(lines)


def keys_help(command: str, schema: type[Section], words: Sequence[str]) -> str:
    """The keys at and below each word (a group, or a dotted key), a line each.

    Raises:
        ConfigError: there is no such key.
    """
    from attnseg.config.describe import describe

    blocks = []
    for word in words:
        keys = describe(schema, word.partition("=")[0].split("."))
        if not keys:
            groups = ", ".join(schema.model_fields)
            raise ConfigError(f"--help {word}: no such key; attnseg {command} has {groups}")
        options = group_options(word)
        lines = [f"{word}=" + " | ".join(options)] if options else []
        path = max(len(key.path) for key in keys)
        kind = min(28, max(len(key.kind) for key in keys))
        default = min(20, max(len(key.default) for key in keys))
        lines += [
            f"  {k.path:<{path}}  {k.kind:<{kind}}  {k.default:<{default}}  {k.text}".rstrip()
            for k in keys
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def show(text: str) -> int:
    """Print a help text; exit code 0."""
    sys.stdout.write(text + "\n")
    return 0
