"""What differs between configurations, in the fewest and shortest words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnseg.runs.identity import defining_keys

Flat = dict[str, Any]
_SEED = "seed"


def flatten(config: Mapping[str, Any], path: str = "") -> Flat:
    """Dotted key -> value; lists are values, an empty section is one too."""
    flat: Flat = {}
    for key, value in config.items():
        dotted = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, dotted)
        else:
            flat[dotted] = value
    return flat


def defining(config: Mapping[str, Any]) -> Flat:
    """The flat keys that make a run what it is, its seed apart: what runs of a group share."""
    flat = flatten(defining_keys(config))
    flat.pop(_SEED, None)
    return flat


def differing_keys(configs: Sequence[Flat]) -> list[str]:
    """The keys whose values tell the configurations apart.

    Two options of a group (`schedule.name`) bring keys of their own: those are told only where
    they differ between configurations of the same option.
    """
    keys = sorted({key for config in configs for key in config})
    names = {key for key in keys if key.endswith(".name") and _differs(key, configs)}
    told = []
    for key in keys:
        above = [name for name in names if key != name and _inside(key, name)]
        alike: dict[str, list[Flat]] = {}
        for config in configs:
            alike.setdefault(repr([config.get(name) for name in above]), []).append(config)
        if any(_differs(key, part) for part in alike.values()):
            told.append(key)
    return sorted(told, key=lambda key: (key not in names, key))


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Each key -> its shortest ending that is like no other's; `x.name` is called `x`."""
    plain = {key: key.removesuffix(".name") for key in keys}
    return {key: _shortest(name, list(plain.values())) for key, name in plain.items()}


def words_of(value: object) -> str:
    """A configuration's value as people write it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(words_of(item) for item in value) + "]"
    return str(value)


def find_key(word: str, keys: Sequence[str]) -> list[str]:
    """The keys that a user's word may mean: itself, its `.name`, or an ending of a key."""
    for wanted in (word, f"{word}.name"):
        if wanted in keys:
            return [wanted]
    return [key for key in keys if f".{key.removesuffix('.name')}".endswith(f".{word}")]


def _differs(key: str, configs: Sequence[Flat]) -> bool:
    return len({repr(config.get(key)) for config in configs}) > 1


def _inside(key: str, name: str) -> bool:
    return key.startswith(name.removesuffix("name"))


def _shortest(name: str, names: Sequence[str]) -> str:
    parts = name.split(".")
    fewest = min(len(parts), 1 if len(parts) < 3 else 2)  # `end` alone says nothing
    for n in range(fewest, len(parts)):
        ending = ".".join(parts[-n:])
        if sum(other == ending or other.endswith(f".{ending}") for other in names) == 1:
            return ending
    return name
