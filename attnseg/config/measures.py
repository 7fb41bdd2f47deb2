"""What metrics are called and what they mean, known without importing torch.

Ours are read from their files, where value, unit, direction and definition stand together. Of
anybody else's a run's status.json keeps what it said of itself (`RECORD`).
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from attnseg.common.errors import ConfigError
from attnseg.component import Measure, expanded
from attnseg.config.component import Component, registry
from attnseg.config.signatures import evaluate, find_definition

RECORD = "measures"
"""The key of status.json and metrics.json for metrics that are not ours."""

_LOSS = Measure("", False)


@lru_cache(maxsize=1)
def own_measures() -> dict[str, Measure]:
    """Every value that a metric of ours gives, by its name."""
    found: dict[str, Measure] = {}
    for target in registry("metric").values():
        place = find_definition(target)
        assert place is not None, target
        module, definition = place
        for statement in definition.body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == RECORD:
                found |= expanded(evaluate(module, statement.value))
    return found


def validation_names(*, has_attention: bool) -> list[str]:
    """Of every metric of ours that the validation of an epoch gives, without the `val/`."""
    return [
        name
        for name, measure in own_measures().items()
        if not measure.evaluation and (has_attention or not measure.needs_attention)
    ]


def measure_of(column: str, recorded: Mapping[str, Any] | None = None) -> Measure | None:
    """What a metric or a loss means; None where nobody says.

    Args:
        column: its name, with or without `train/` or `val/`.
        recorded: what status.json or metrics.json has under `RECORD`. A metric that gives several
            values, `<name>_<key>`, is there by its name.
    """
    name = column.removeprefix("train/").removeprefix("val/")
    if name.startswith("loss/"):
        return _LOSS
    if name in own_measures():
        return own_measures()[name]
    of = [one for one in recorded or () if name == one or name.startswith(f"{one}_")]
    told = (recorded or {}).get(max(of, key=len)) if of else None
    if not isinstance(told, Mapping):
        return None
    known = {key: told[key] for key in ("definition", "unit", "higher_is_better") if key in told}
    return Measure(**{"definition": name, **known})


def higher_is_better(column: str, recorded: Mapping[str, Any] | None = None) -> bool | None:
    """Which end of a metric or a loss is the good one; None: neither, or nobody says."""
    measure = measure_of(column, recorded)
    return None if measure is None else measure.higher_is_better


def recorded_in(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What several status.json or metrics.json say of metrics that are not ours."""
    found: dict[str, Any] = {}
    for record in records:
        told = record.get(RECORD)
        found |= told if isinstance(told, Mapping) else {}
    return found


def refuse_unknown(
    monitors: Sequence[tuple[str, str]],
    *,
    has_attention: bool,
    others: Iterable[str] = (),
) -> None:
    """Refuse a name that no validation gives; losses are known only after an epoch.

    Args:
        monitors: key of the configuration and its value, as in `val/dice_positive`.
        has_attention: whether the model has a map to measure.
        others: the names under `metrics`; one may give several values, `<name>_<key>`.

    Raises:
        ConfigError: one of them is no metric.
    """
    known = [f"val/{name}" for name in (*validation_names(has_attention=has_attention), *others)]
    free = ("val/loss/", "train/", *(f"val/{name}_" for name in others))
    for key, name in monitors:
        if name not in known and not name.startswith(free):
            raise no_such_metric(key, name, known)


def refuse_wrong_end(monitors: Sequence[tuple[str, str, bool]], ends: Mapping[str, Any]) -> None:
    """Refuse to look for the worst value of a metric.

    Args:
        monitors: key of the configuration, its value, and whether high values are looked for.
        ends: what metrics that are not ours say of themselves, as `measure_of` takes it.

    Raises:
        ConfigError: what to give instead.
    """
    for key, name, highest in monitors:
        good = higher_is_better(name, ends)
        if good is not None and good != highest:
            end, section = ("higher", "lower")[not good], key.rpartition(".")[0]
            say = f"{section}.mode={'max' if good else 'min'}"
            if section == "sweep":
                say = f"{key} with direction: {'maximize' if good else 'minimize'}"
            raise ConfigError(f"{key}={name}: is better where it is {end}: give {say}")


def ends_told(metrics: Mapping[str, Component]) -> dict[str, Any]:
    """Which end is good, of those whose source says it in the class itself."""
    constants = {name: metric.signature.constants for name, metric in metrics.items()}
    return {
        name: {k: v for k, v in of.items() if k == "higher_is_better"}
        for name, of in constants.items()
    }


def no_such_metric(key: str, name: str, known: Sequence[str]) -> ConfigError:
    """The error that names a mistyped metric and what may have been meant."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {sorted(known)}"
    return ConfigError(f"{key}={name}: no such metric; {hint}")
