"""`attnseg train -m sweep=optuna`: what is searched, from words and configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnseg.common.errors import ConfigError, UserError
from attnseg.common.files import write_text
from attnseg.config import (
    CategoricalSpace,
    FloatSpace,
    IntSpace,
    OptunaSweepConfig,
    Space,
    TrainConfig,
    validate,
)
from attnseg.config.compose import compose_here
from attnseg.runs.identity import id_part
from attnseg.sweeps.record import SweepRecord
from attnseg.sweeps.search import SearchPlan
from attnseg.sweeps.words import Words, composer, digest, parse, plain_value
from attnseg.training.identified import identified
from attnseg.training.preflight import refuse_unknown_objectives


def plan(words: Words, command: str) -> SearchPlan:
    """The search that a command line asks for; call inside `hydra_ready`.

    Raises:
        ConfigError: there is nothing to search, or a range is not understood.
    """
    digests: dict[str, str] = {}  # the data are looked at once
    config = validate(compose_here("train", words.fixed, TrainConfig), TrainConfig, imports=True)
    assert isinstance(config.sweep, OptunaSweepConfig)
    refuse_unknown_objectives(config)
    given = {key: space_of(key, override) for key, override in words.swept.items()}
    space: dict[str, Space] = {**config.sweep.search_space, **given}
    if not space:
        raise ConfigError(
            "sweep=optuna has nothing to search: give ranges, such as "
            "'optim.lr=interval(1e-4,1e-2)' or attention=drr,anatomical, or sweep.search_space"
        )
    keys = {key: hydra_key(key) for key in space}
    keys |= {key: str(each.get_key_element()) for key, each in words.swept.items()}
    parts: dict[str, Any] = {
        "run": id_part(config),
        "space": {key: each.model_dump() for key, each in space.items()},
        "objectives": [each.model_dump() for each in config.sweep.objectives],
        "sampler": [config.sweep.sampler, config.sweep.seed, config.sweep.at],
    }
    try:
        data_digest = identified(config, digests).data_digest
    except UserError:
        if not any(key.partition(".")[0] == "data" for key in space):
            raise
        data_digest = None  # the data are searched themselves: each point knows its own
    title = words.title if words.title != "single" else "optuna"
    record = SweepRecord(Path(config.run.root), title, "", command, list(space))
    record.id = _study_of(record, parts, data_digest)
    points = composer(words.fixed, keys, digests)
    return SearchPlan(config.sweep, config.launcher, space, record, points)


def _study_of(record: SweepRecord, parts: Mapping[str, Any], data_digest: str | None) -> str:
    """The search's id, which other data change; an old study keeps the one it has."""
    before = digest([json.dumps(parts, sort_keys=True)])
    if data_digest is None:
        return before
    own = digest([json.dumps({**parts, "version": 2, "data_digest": data_digest}, sort_keys=True)])
    record.id = before
    noted = record.path / "data_digest.txt"
    if not record.path.exists() or (noted.exists() and noted.read_text() != data_digest):
        return own
    if not noted.exists():
        print(f"note: {record.path}: its content was not recorded; today's data are taken for it")
        write_text(noted, data_digest)
    return before


def hydra_key(key: str) -> str:
    """A key of sweep.search_space in the form that Hydra takes it in."""
    from attnseg.config.compose import relax

    return relax([f"{key}=x"], TrainConfig)[0].partition("=")[0]


def space_of(key: str, override: Any) -> Space:
    """Hydra's sweep syntax as a search space, as its Optuna plugin reads it.

    `a,b` or choice(a,b): categorical. range(1,9): int, the end left out. interval(1e-4,1e-2):
    float, or int where both ends are. tag(log, ...): logarithmic.

    Raises:
        ConfigError: the range is empty, or cannot be logarithmic.
    """
    from pydantic import ValidationError

    value = override.value()
    log = "log" in getattr(value, "tags", set())
    try:
        if override.is_interval_sweep():
            low, high = value.start, value.end
            if isinstance(low, int) and isinstance(high, int):
                return IntSpace(type="int", low=low, high=high, log=log)
            return FloatSpace(type="float", low=float(low), high=float(high), log=log)
        if override.is_range_sweep():
            start, stop, step = value.start, value.stop, value.step
            if all(isinstance(number, int) for number in (start, stop, step)):
                return IntSpace(type="int", low=start, high=stop - 1, step=step, log=log)
            high = stop - step
            return FloatSpace(type="float", low=start, high=high, step=step, log=log)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{key}: {reason}") from None
    raw = override.get_key_element()
    values = [plain_value(parse([f"{raw}={text}"])[0]) for text in override.sweep_string_iterator()]
    return CategoricalSpace(type="categorical", choices=list(dict.fromkeys(values)))
