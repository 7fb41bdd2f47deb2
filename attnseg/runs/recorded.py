"""A run's configuration as it is written down: in its folder, checkpoints and loggers, and for
the processes that it starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from attnseg.common.credentials import concealed, is_secret
from attnseg.config import TrainConfig, validate
from attnseg.config.environment import Composed, interpolations_in, value_at, with_value
from attnseg.runs.identity import is_free

_HELD = "ATTNSEG_HELD_"  # environment variables that hand secrets to the processes of a run


def recorded(config: TrainConfig) -> dict[str, Any]:
    """The configuration in plain types, as anybody may read it.

    What does not define the run and came from the environment is its interpolation again
    (`${oc.env:SCRATCH}/runs`); passwords and tokens are gone.
    """
    plain: dict[str, Any] = concealed(_with_interpolations(config))
    return plain


def as_recorded(config: TrainConfig, tree: Any) -> Any:
    """Something that is written beside a configuration, in the same way: without secrets, and
    with the paths that came from the environment as their interpolations."""
    places = {
        value: text
        for place, (text, value) in config.interpolations.items()
        if is_free(place) and isinstance(value, str) and "/" in value
    }
    return concealed(_with_places(tree, places))


def frozen(config: TrainConfig) -> dict[str, Any]:
    """The configuration for other processes, by way of a file: `thawed` reads it.

    What must not be written goes by way of environment variables that they inherit.
    """
    plain = _with_interpolations(config)
    free = {place for place in config.interpolations if value_at(plain, place) is not None}
    return dict(_frozen(plain, (), free))


def thawed(plain: Mapping[str, Any]) -> TrainConfig:
    """The configuration that `frozen` wrote, resolved in this process's environment.

    Raises:
        ConfigError: an environment variable is not there.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from attnseg.common.errors import ConfigError

    found = interpolations_in(plain)
    if not found and "${" not in str(plain):
        return validate(plain, TrainConfig, imports=True)
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(dict(plain)), resolve=True)
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"{first}; this process was started without it") from None
    assert isinstance(resolved, dict)
    kept = {place: text for place, text in found.items() if _HELD not in text}
    return validate(
        Composed({str(k): v for k, v in resolved.items()}, kept), TrainConfig, imports=True
    )


def _with_interpolations(config: TrainConfig) -> dict[str, Any]:
    plain: dict[str, Any] = config.model_dump(mode="json")
    for place, (text, value) in config.interpolations.items():
        if is_free(place) and value_at(plain, place) == value:  # else it was changed since
            plain = with_value(plain, place, text)
    return plain


def _with_places(tree: Any, places: Mapping[str, str]) -> Any:
    if isinstance(tree, Mapping):
        return {key: _with_places(value, places) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_with_places(value, places) for value in tree]
    if isinstance(tree, str):
        for value, text in places.items():
            if tree == value or tree.startswith(value.rstrip("/") + "/"):
                return text + tree[len(value) :]
    return tree


def _frozen(tree: Any, place: tuple[Any, ...], free: set[tuple[Any, ...]]) -> Any:
    if isinstance(tree, Mapping):
        return {key: _frozen(value, (*place, key), free) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_frozen(value, (*place, index), free) for index, value in enumerate(tree)]
    if not isinstance(tree, str) or (place in free and "${" in tree):
        return tree
    if concealed(tree) != tree or is_secret(place[-1] if place else None, tree):
        return f"${{oc.env:{_held(tree)}}}"
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", tree)  # no interpolation, but a name like one


def _held(secret: str) -> str:
    """The environment variable that holds it from now on."""
    names = (f"{_HELD}{number}" for number in range(len(os.environ) + 1))
    for name in names:
        if os.environ.setdefault(name, secret) == secret:
            return name
    raise AssertionError("there is always one more name")
