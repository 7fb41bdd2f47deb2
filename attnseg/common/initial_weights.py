"""Arguments of a constructor that would load or download weights."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

_INITIAL = re.compile(
    r"pretrain|(^|_)(weights|checkpoint|ckpt|state_dict|path|file|filename|url|uri|repo)(_|$)"
)
_WEIGHTS_FILE = re.compile(r"\w+://|[/~.]|.*\.(pt|pth|ckpt|bin|h5|npz|onnx|pkl|safetensors)$")


def without_initial_weights(
    arguments: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Arguments of a network that a checkpoint will fill: none that loads or downloads weights.

    Such are recognised by name (`pretrained`, `encoder_weights`, `weights_path`, `checkpoint`,
    ...) or by a value that is a URL or a file of weights. Texts and mappings become None, switches
    False; numbers stay.

    Args:
        arguments: as the configuration has them.
        defaults: of the constructor, which count where an argument is not given.
    """
    kept = {key: _disarmed(key, value) for key, value in arguments.items()}
    for key, value in (defaults or {}).items():
        new = _disarmed(key, value)
        if key not in kept and new is not value and not new:
            kept[key] = new
    return kept


def _disarmed(key: str, value: Any) -> Any:
    if _INITIAL.search(key):
        if isinstance(value, (str, os.PathLike, Mapping)):
            return None
        if value is True and ("pretrain" in key or "weights" in key):
            return False
    if isinstance(value, str) and _WEIGHTS_FILE.match(value):
        return None
    if isinstance(value, Mapping):
        return without_initial_weights(value)
    return value
