"""`attnseg train -m`: from command-line words to the jobs of a sweep."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnseg.common.errors import ConfigError, UserError
from attnseg.config import TrainConfig, validate
from attnseg.config.compose import compose_here, hydra_ready
from attnseg.runs.identity import run_identity
from attnseg.sweeps.names import job_name
from attnseg.sweeps.record import Job, SweepRecord
from attnseg.sweeps.words import Words, digest, parse, plain_value, read_words
from attnseg.training.identified import identified
from attnseg.training.preflight import refuse_unknown_monitors, refuse_unusable_precision


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
        from attnseg.sweeps.search import run_search

        return run_search(search)
    bad = [job for job in record.jobs if job.config is None]
    if bad:
        lines = [f"  - {job.name or 'the job'}: {job.problem}" for job in bad]
        print("\n".join([f"{len(bad)} of {len(record.jobs)} jobs cannot run:", *lines]), flush=True)
    config = next(job.config for job in record.jobs if job.config is not None)
    from attnseg.sweeps.jobs import run_grid

    return run_grid(record, config.launcher, fail_fast=config.sweep.fail_fast)


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


def _choices(key: str, override: Any) -> list[tuple[str, Any]]:
    """A swept key's values: the word that Hydra takes, and the plain value."""
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.input_line.lstrip('+')}: a range is for a search: sweep=optuna"
        )
    raw = override.get_key_element()
    found = [f"{raw}={text}" for text in override.sweep_string_iterator()]
    return [(word, plain_value(parse([word])[0])) for word in dict.fromkeys(found)]


def _attempt(overrides: Sequence[str], digests: dict[str, str]) -> TrainConfig | UserError:
    try:
        config = validate(compose_here("train", overrides, TrainConfig), TrainConfig, imports=True)
        refuse_unknown_monitors(config)
        refuse_unusable_precision(config)
        return identified(config, digests)
    except UserError as error:
        return error
