"""Readable, filesystem-safe names made of what varies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from attnseg.common.credentials import redacted

_LONGEST = 150  # bytes: file systems allow 255, and an id and temporary suffixes follow


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Every dotted key's last part, or as many of its last parts as tell it from the others."""
    parts = {key: re.split(r"[./]", key) for key in keys}
    names = {}
    for key, words in parts.items():
        others = [theirs for other, theirs in parts.items() if other != key]
        for count in range(1, len(words) + 1):
            tail = words[-count:]
            if all(theirs[-count:] != tail for theirs in others):
                break
        names[key] = ".".join(tail)
    return names


def job_name(varied: Mapping[str, Any], prefix: str = "") -> str:
    """`attention=drr,schedule=none,seed=1`: what tells a run from the others of its sweep.

    Args:
        varied: the swept keys with this run's values; their order does not matter.
        prefix: what the name begins with, where the user gave a run.name.
    """
    short = short_keys(varied)
    pairs = sorted(f"{short[key]}={_text(value)}" for key, value in varied.items())
    name = ",".join(pairs)
    return shortened(f"{safe(prefix)}-{name}" if prefix and name else prefix or name)


def shortened(name: str) -> str:
    """A name that a file system takes; what is cut off gives way to a hash of the whole."""
    if len(name.encode()) <= _LONGEST:
        return name
    kept = name.encode()[: _LONGEST - 9].decode(errors="ignore")
    return f"{kept.rstrip(' .,')}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def safe(text: str) -> str:
    """Only characters that need no quoting in a path."""
    return re.sub(r"[^A-Za-z0-9._=+,-]+", "-", text).strip("-,") or "x"


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and len(repr(value)) > 8:  # a search's; the id tells them apart
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "-".join(map(_text, value)) or "x"
    return safe(redacted(str(value)).replace(",", "-"))
