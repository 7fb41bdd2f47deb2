"""Weights that come with the package: *.safetensors, each with its configuration (.yaml) beside it.

`checkpoint=pretrained` means the one file here (or default.safetensors among several);
`checkpoint=pretrained:NAME` means NAME.safetensors.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from attnseg.common.errors import CheckpointError

WORD = "pretrained"
_SUFFIX = ".safetensors"
_unpacked = ExitStack()  # a zipped package's file is unpacked for as long as the process lives
atexit.register(_unpacked.close)


def means_pretrained(spec: str) -> bool:
    """Whether a checkpoint specification is `pretrained` or `pretrained:NAME`."""
    return spec == WORD or spec.startswith(f"{WORD}:")


def pretrained_names() -> list[str]:
    """The names of the files that this installation has."""
    files = [entry.name for entry in _folder().iterdir() if entry.name.endswith(_SUFFIX)]
    return sorted(name.removesuffix(_SUFFIX) for name in files)


def pretrained_file(spec: str, key: str = "checkpoint") -> Path:
    """The packaged file that `pretrained` or `pretrained:NAME` means.

    Raises:
        CheckpointError: this installation has none, not that one, or several to choose from.
    """
    names = pretrained_names()
    wanted = spec.partition(":")[2]
    if not names:
        raise CheckpointError(
            f"{key}={spec}: this installation of attnseg has no pretrained weights; give a run "
            "folder, a .ckpt or a .safetensors"
        )
    if not wanted:
        wanted = "default" if "default" in names else names[0]
        if len(names) > 1 and wanted != "default":
            raise CheckpointError(
                f"{key}={spec}: there are several; choose {WORD}:NAME from {', '.join(names)}"
            )
    if wanted not in names:
        raise CheckpointError(
            f"{key}={spec}: no pretrained weights of that name; there are {', '.join(names)}"
        )
    resource = _folder() / f"{wanted}{_SUFFIX}"
    return _unpacked.enter_context(resources.as_file(resource))


def _folder() -> Traversable:
    return resources.files("attnseg.runs.pretrained")


def no_such_checkpoint(key: str, spec: str) -> CheckpointError:
    """The error of a path that leads nowhere."""
    weights = " or .safetensors" if key in ("checkpoint", "warmstart") else ""
    if means_pretrained(spec) and not weights:
        return CheckpointError(
            f"{key}={spec}: the package brings weights alone, and no run to go on with; "
            f"warmstart={spec} starts from them"
        )
    return CheckpointError(
        f"{key}={spec}: no such file or folder; give a run folder or a .ckpt{weights}"
    )
