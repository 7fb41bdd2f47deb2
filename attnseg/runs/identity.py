"""What defines a run, and the id made of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from attnseg.config import TrainConfig

# Where a run computes, shows and stores things does not define it; everything else does.
_FREE = {
    "run": None,
    "logger": None,
    "launcher": None,
    "sweep": None,
    "data": ("root", "cache_dir", "num_workers", "eval_batch_size", "scans_csv"),
    "callbacks": ("overlays",),
    "trainer": (
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "num_threads",
        "progress_bar",
        "deterministic",
        "benchmark",
        "compile",
        "channels_last",
        "max_epochs",
    ),
}


def defining_part(config: TrainConfig) -> dict[str, Any]:
    """The part of a configuration that decides the numbers, as plain containers."""
    plain = config.model_dump(mode="json")
    for section, keys in _FREE.items():
        if keys is None:
            plain.pop(section)
        else:
            plain[section] = {k: v for k, v in plain[section].items() if k not in keys}
    return plain


def run_identity(config: TrainConfig) -> str:
    """Eight hex digits of a hash over the defining part; the same run has the same identity."""
    text = json.dumps(defining_part(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def run_name(config: TrainConfig) -> str:
    """The readable name: given, or made of what users vary most."""
    if config.run.name:
        return config.run.name
    parts = [config.data.name, config.model.name, config.attention.name, config.schedule.name]
    return "-".join([*parts, f"s{config.seed}"])


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Key by key, where two plain configurations differ: `key: theirs -> ours`."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        lines = []
        for key in sorted({*ours, *theirs}):
            dotted = f"{path}.{key}" if path else str(key)
            lines += differences(ours.get(key), theirs.get(key), dotted)
        return lines
    return [] if ours == theirs else [f"{path}: {theirs!r} -> {ours!r}"]
