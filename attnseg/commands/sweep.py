"""`attnseg train -m`: from command-line words to the jobs of a sweep."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnseg.commands.compose import compose_here, explain, hydra_ready, relax
from attnseg.config import TrainConfig, validate
from attnseg.config.grammar import NOT_SWEPT, assignment
from attnseg.errors import ConfigError, UserError
from attnseg.runs.identity import identified, run_identity
from attnseg.runs.preflight import refuse_unknown_monitors, refuse_unusable_precision
from attnseg.runs.sweep.names import job_name, safe, short_keys, shortened
from attnseg.runs.sweep.record import Job, SweepRecord


@dataclass(frozen=True)
class Words:
    """A sweep's command line: what every job shares, and what varies."""

    fixed: list[str]  # key=value, as Hydra takes them
    swept: dict[str, Any]  # key -> Hydra's Override, several values or an interval
    engine: str  # grid | optuna
    title: str  # of the sweep


def sweep(arguments: Sequence[str]) -> int:
    """Run a sweep.

    Args:
        arguments: overrides only.

    Returns:
        0 all finished, 1 some failed, 2 the user's mistake, 75 interrupted and resumable.

    Raises:
        ConfigError: the command line is wrong for every job.
    """
    command = " ".join(["attnseg train -m", *arguments])
    with hydra_ready():
        words = read_words(arguments)
        if words.engine == "optuna":
            from attnseg.commands.search import plan

            search = plan(words, command)
        else:
            record = grid(words, command)
    if words.engine == "optuna":
        from attnseg.runs.sweep.search import run_search

        return run_search(search)
    bad = [job for job in record.jobs if job.config is None]
    if bad:
        lines = [f"  - {job.name or 'the job'}: {job.problem}" for job in bad]
        print("\n".join([f"{len(bad)} of {len(record.jobs)} jobs cannot run:", *lines]), flush=True)
    config = next(job.config for job in record.jobs if job.config is not None)
    from attnseg.runs.sweep.jobs import run_grid

    return run_grid(record, config.launcher, fail_fast=config.sweep.fail_fast)


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
        base = compose("train", overrides=fixed, return_hydra_config=True)
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


def grid(words: Words, command: str) -> SweepRecord:
    """Compose and check every combination before anything trains; call inside `hydra_ready`.

    Raises:
        ConfigError: a range that only a search can take, or no combination is right.
    """
    choices = [_choices(key, override) for key, override in words.swept.items()]
    composed = []
    digests: dict[str, str] = {}  # the data are looked at once
    for combination in itertools.product(*choices):
        picked = [word for word, _ in combination]
        values = {key: value for key, (_, value) in zip(words.swept, combination, strict=True)}
        composed.append((values, _attempt([*words.fixed, *picked], digests)))
    varied = [key for key, each in zip(words.swept, choices, strict=True) if len(each) > 1]
    good = [config for _, config in composed if isinstance(config, TrainConfig)]
    if not good:
        problems = list(dict.fromkeys(str(problem) for _, problem in composed))
        raise ConfigError("\n".join(problems))
    marks = [
        run_identity(config) if isinstance(config, TrainConfig) else json.dumps(values, default=str)
        for values, config in composed
    ]
    record = SweepRecord(Path(good[0].run.root), words.title, digest(marks), command, varied)
    for index, (values, config) in enumerate(composed):
        kept = {key: value for key, value in values.items() if key in varied}
        if isinstance(config, TrainConfig):
            record.jobs.append(record.place(index, kept, config))
        else:
            record.jobs.append(Job(index, kept, job_name(kept), problem=in_one_line(config)))
    return record


def in_one_line(error: Exception) -> str:
    """What is wrong with one job of many, without the words that all of them share."""
    lines = [line.strip().removeprefix("- ") for line in str(error).splitlines()]
    if len(lines) > 1 and lines[0].startswith("the configuration "):
        lines = lines[1:]
    text = "; ".join(line for line in lines if line)
    head, found, options = text.partition(":; ")  # "Available options in 'schedule':"
    return f"{head}: {options.replace('; ', ', ')}" if found else text


def digest(marks: Sequence[str]) -> str:
    """A sweep's id: of the runs it is made of, in whatever order."""
    return hashlib.sha256(json.dumps(sorted(marks)).encode()).hexdigest()[:8]


def _choices(key: str, override: Any) -> list[tuple[str, Any]]:
    """A swept key's values: the word that Hydra takes, and the plain value."""
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.input_line.lstrip('+')}: a range is for a search: sweep=optuna"
        )
    raw = override.get_key_element()
    found = [f"{raw}={text}" for text in override.sweep_string_iterator()]
    return [(word, plain_value(parse([word])[0])) for word in dict.fromkeys(found)]


def plain_value(override: Any) -> Any:
    """An override's value in plain types."""
    value = override.value()
    if isinstance(value, list):
        return [str(each) if not isinstance(each, (int, float)) else each for each in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return override.get_value_element_as_str()


def _attempt(overrides: Sequence[str], digests: dict[str, str]) -> TrainConfig | UserError:
    try:
        config = validate(compose_here("train", overrides, TrainConfig), TrainConfig, imports=True)
        refuse_unknown_monitors(config)
        refuse_unusable_precision(config)
        return identified(config, digests)
    except UserError as error:
        return error


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
