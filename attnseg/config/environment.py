"""What of a configuration came from the environment: values, and the interpolations they had."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

Place = tuple[str | int, ...]  # the keys that lead to a value

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_VARIABLE = re.compile(r"\$\{oc\.env:([A-Za-z_]\w*)(?:,([^{}]*))?\}")


class Composed(dict[str, Any]):
    """A resolved configuration that remembers what it had from the environment.

    Attributes:
        interpolations: of every value that came from the environment, its text before it was
            resolved (`${oc.env:SCRATCH}/runs`).
    """

    def __init__(self, plain: Mapping[str, Any], interpolations: Mapping[Place, str]) -> None:
        super().__init__(plain)
        self.interpolations = dict(interpolations)


def composed(config: Any) -> Composed:
    """Resolve what Hydra has composed.

    Raises:
        OmegaConfBaseException: an interpolation fails, or a value is missing.
    """
    from omegaconf import OmegaConf

    raw = OmegaConf.to_container(config, resolve=False)
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return Composed({str(key): value for key, value in plain.items()}, interpolations_in(raw))


def interpolations_in(raw: Any) -> dict[Place, str]:
    """The texts of an unresolved configuration that read the environment, by themselves or by
    way of another key."""
    texts = {place: text for place, text in _texts(raw) if "${" in text}
    dotted = {".".join(map(str, place)): text for place, text in texts.items()}

    def reads(text: str, seen: frozenset[str]) -> bool:
        if "${oc.env:" in text:
            return True
        keys = {key for key in _REFERENCE.findall(text) if key in dotted} - seen
        return any(reads(dotted[key], seen | keys) for key in keys)

    return {place: text for place, text in texts.items() if reads(text, frozenset())}


def from_environment(plain: Mapping[str, Any]) -> Composed:
    """A recorded configuration, or a part of one, with what is set in this environment.

    Only `${oc.env:NAME}` is followed, and what is not set stays as it is.
    """
    found: dict[Place, str] = {}

    def look_up(place: Place, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: look_up((*place, key), each) for key, each in value.items()}
        if isinstance(value, list):
            return [look_up((*place, index), each) for index, each in enumerate(value)]
        if isinstance(value, str) and _VARIABLE.search(value):
            found[place] = value
            return _VARIABLE.sub(lambda m: os.environ.get(m[1], m[2] or m[0]), value)
        return value

    resolved = look_up((), plain)
    return Composed(resolved, found)


def value_at(tree: Any, place: Place) -> Any:
    """The value that some keys lead to; None where they do not."""
    for key in place:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def with_value(tree: Any, place: Place, value: Any) -> Any:
    """A copy of the tree with another value there."""
    if not place:
        return value
    first, *rest = place
    inner = with_value(tree[first], tuple(rest), value)
    if isinstance(tree, Mapping):
        return {**tree, first: inner}
    return [inner if index == first else each for index, each in enumerate(tree)]


def _texts(tree: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _texts(value, (*place, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _texts(value, (*place, index))
    elif isinstance(tree, str):
        yield place, tree
