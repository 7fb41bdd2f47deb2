"""From command-line words to a checked configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from attnseg.common.errors import ConfigError
from attnseg.common.paths import conf_dir, conf_dirs
from attnseg.config import Section, TrainConfig, validate
from attnseg.config.component import without_replaced
from attnseg.config.environment import composed
from attnseg.config.grammar import natural

SectionT = TypeVar("SectionT", bound=Section)
_SEARCHPATH = "hydra.searchpath="
_PHASE = re.compile(r"schedule\.phases\.[^.]+(\.epochs)?")


def compose(config_name: str, overrides: Sequence[str], schema: type[Section]) -> dict[str, Any]:
    """Compose one of conf/*.yaml with Hydra and resolve it to plain containers.

    The schema says which keys take text, whose values then need no quotes of Hydra's.

    Raises:
        ConfigError: an override is malformed, names no group or option, or an interpolation
            fails; Hydra's own reason is in the message.
    """
    with hydra_ready():
        return compose_here(config_name, overrides, schema)


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Hydra's global state, set up for conf/ and for the time of the block."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(conf_dir()), job_name="attnseg", version_base="1.3"):
        yield


def compose_here(
    config_name: str, overrides: Sequence[str], schema: type[Section]
) -> dict[str, Any]:
    """As `compose`, inside `hydra_ready`: a sweep composes many."""
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        words = with_project(relax(overrides, schema))
        config = hydra_compose(config_name, overrides=words)
        return without_replaced(composed(config), given_keys(overrides))
    # Hydra says `schedule=null` with a ValueError.
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(explain(error, overrides)) from None


def given_keys(overrides: Sequence[str]) -> list[str]:
    """The dotted keys that command-line words give a value, those inside of a dictionary, too."""
    keys = []
    for word in overrides:
        key, sign, value = word.lstrip("+").partition("=")
        if sign:
            keys.append(key)
        if value[:1] == "{":
            keys += [f"{key}.{inner}" for inner in re.findall(r"[{,]\s*([\w-]+)\s*:", value)]
    return keys


def compose_checked(config_name: str, overrides: Sequence[str], schema: type[SectionT]) -> SectionT:
    """Compose and validate against the schema: the only way a command gets its configuration."""
    return validate(compose(config_name, overrides, schema), schema, imports=True)


def compose_training(overrides: Sequence[str] = ()) -> TrainConfig:
    """The configuration of a training, as `attnseg train` would have it.

    Args:
        overrides: its words: `["data=phantom", "schedule.total_epochs=30"]`.

    Raises:
        ConfigError: lists every wrong key and value at once.
    """
    return compose_checked("train", overrides, TrainConfig)


def relax(overrides: Sequence[str], schema: type[Section], *, sweep: bool = False) -> list[str]:
    """Let the schema, not OmegaConf, judge unknown keys: it lists all of them with suggestions.

    Text is quoted where it has to be (`attnseg.config.grammar.natural`), and `key=value` for a
    key that no file names becomes `++key=value`; groups stay as they are. So do a phase and its
    epochs: with `++` a mistyped name would add a phase to the schedule.
    """
    groups = {path.name for conf in conf_dirs() for path in conf.iterdir() if path.is_dir()}
    relaxed = []
    for override in natural(overrides, schema, sweep=sweep):
        key = override.split("=", 1)[0]
        plain = "=" in override and key[:1] not in "+~-" and "/" not in key
        plain = plain and not _PHASE.fullmatch(key) and not key.startswith("hydra.")
        relaxed.append(f"++{override}" if plain and key.split("@")[0] not in groups else override)
    return relaxed


def with_project(words: Sequence[str]) -> list[str]:
    """Words of Hydra's, and where it finds the configs of one's own project besides."""
    own = [f"'file://{path}'" for path in conf_dirs()[1:]]
    given = [word for word in words if word.startswith(_SEARCHPATH)]
    if not own or any(word.removeprefix(_SEARCHPATH)[:1] != "[" for word in given):
        return list(words)
    for word in given:
        own.insert(0, word.removeprefix(_SEARCHPATH)[1:-1])
    rest = [word for word in words if word not in given]
    return [f"{_SEARCHPATH}[{','.join(filter(None, own))}]", *rest]


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's message in a form that says what to do."""
    headline = (str(error).splitlines() or [""])[0]
    missing = headline.removeprefix("Missing mandatory value: ")
    if missing != headline:
        return f"{missing} is not set, and is needed: add {missing}=..."
    cause = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    if cause is not None and str(cause) not in str(error):
        lines += str(cause).splitlines()[:1]
    noise = ("Set the environment", "full_key:", "object_type=", "Config search path:", "provider=")
    text = "\n".join(line for line in lines if not line.strip().startswith(noise))
    shown = " ".join(overrides)
    given = f" from: {shown}" if shown else ":"
    return f"the configuration cannot be composed{given}\n{text}"
