"""A sweep's command line, taken apart in Hydra's grammar."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnseg.common.errors import ConfigError
from attnseg.config import TrainConfig, validate
from attnseg.config.compose import compose_here, explain, hydra_ready, relax, with_project
from attnseg.config.grammar import NOT_SWEPT, assignment
from attnseg.sweeps.names import safe, short_keys, shortened
from attnseg.training.identified import identified


@dataclass(frozen=True)
class Words:
    """A sweep's command line: what every job shares, and what varies."""

    fixed: list[str]  # key=value, as Hydra takes them
    swept: dict[str, Any]  # key -> Hydra's Override, several values or an interval
    engine: str  # grid | optuna
    title: str  # of the sweep


def read_words(arguments: Sequence[str]) -> Words:
    """Parse the words, and add what the experiment sweeps by itself (hydra.sweeper.params)."""
    from hydra import compose
    from omegaconf import OmegaConf

    parsed = {_key(override): override for override in parse(arguments)}
    for key in ("hydra/launcher", "hydra/sweeper"):
        if key in parsed:
            ours = "launcher" if key.endswith("launcher") else "sweep"
            raise ConfigError(f"{key}: attnseg has a group of its own for it: {ours}=...")
    fixed = [_word(override) for override in parsed.values() if not override.is_sweep_override()]
    try:
        base = compose("train", overrides=with_project(fixed), return_hydra_config=True)
        own = OmegaConf.to_container(base.hydra.sweeper.get("params") or OmegaConf.create({}))
        engine = str(OmegaConf.select(base, "sweep.name"))
        title = OmegaConf.select(base, "sweep.title")
    except Exception as error:  # Hydra raises many kinds, and a mistake is all that it can be
        raise ConfigError(explain(error, arguments)) from None
    assert isinstance(own, dict)
    for override in parse([f"{key!s}={value}" for key, value in own.items()]):
        parsed.setdefault(_key(override), override)
    swept = {key: each for key, each in parsed.items() if each.is_sweep_override()}
    for key in swept:
        if key.startswith(NOT_SWEPT):
            raise ConfigError(
                f"{key} cannot vary within a sweep; give it one value (a name with a comma in "
                f"quotes: \"{key}='a,b'\")"
            )
    explicit = parsed.get("run.dir")
    if explicit is not None and explicit.value() is not None:
        raise ConfigError(
            "run.dir names one folder, and every run of a sweep needs its own: set run.root"
        )
    fixed = [_word(each) for key, each in parsed.items() if key not in swept]
    if not title:
        chosen = parsed.get("experiment")
        if chosen is not None and not chosen.is_sweep_override():
            title = str(chosen.value())
        else:
            title = "-".join(sorted(short_keys(swept).values()))
    return Words(fixed, swept, engine, shortened(safe(title or "single")))


def parse(words: Sequence[str]) -> list[Any]:
    """Hydra's grammar: choices, range(...), interval(...), glob(...)."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    try:
        return list(parser.parse_overrides(relax(words, TrainConfig, sweep=True)))
    except HydraException as error:
        raise ConfigError(explain(error, words)) from None


def _key(override: Any) -> str:
    """The key as a user types it."""
    return str(override.get_key_element()).lstrip("+~")


def _word(override: Any) -> str:
    """An override as a word again (a deletion has no value)."""
    return str(override.input_line)


def plain_value(override: Any) -> Any:
    """An override's value in plain types."""
    value = override.value()
    if isinstance(value, list):
        return [str(each) if not isinstance(each, (int, float)) else each for each in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return override.get_value_element_as_str()


def digest(marks: Sequence[str]) -> str:
    """A sweep's id: of the runs it is made of, in whatever order."""
    return hashlib.sha256(json.dumps(sorted(marks)).encode()).hexdigest()[:8]


def composer(fixed: Sequence[str], keys: Mapping[str, str], digests: dict[str, str]) -> Any:
    """For a search: values -> configuration.

    Args:
        fixed: the words that every run shares.
        keys: every searched key, with the form that Hydra takes it in (`++optim.lr`).
        digests: of the data sections that are known already.
    """

    def compose_point(values: Mapping[str, Any]) -> TrainConfig:
        words = [assignment(keys[key], value) for key, value in values.items()]
        with hydra_ready():
            plain = compose_here("train", [*fixed, *words], TrainConfig)
        return identified(validate(plain, TrainConfig, imports=True), digests)

    return compose_point
