"""A comparison as data: runs in groups that differ by seed only, and what is known of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from attnseg.common.errors import ConfigError
from attnseg.config.measures import higher_is_better, recorded_in
from attnseg.reports.compare.differences import (
    Flat,
    defining,
    differing_keys,
    find_key,
    short_names,
    words_of,
)
from attnseg.reports.compare.evaluations import Evaluation
from attnseg.reports.compare.statistics import mean_sd
from attnseg.reports.style import as_float
from attnseg.runs.records import RunRecord

_DATA, _DIGITS = "data_digest", 8

IN_CASES = {"dice_positive": "dice", "iou_positive": "iou"}
"""Metric of a whole split -> its column in cases.csv, where the names differ."""


@dataclass(frozen=True)
class ComparedRun:
    """One run, its results on the compared split, and whether statistics count it.

    Attributes:
        record: what its folder says.
        evaluation: its results on the split; None where there are none.
        split: which one.
        left_out: why statistics leave it out; empty where they do not.
    """

    record: RunRecord
    evaluation: Evaluation | None
    split: str
    left_out: str = ""

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """Its metrics on the split; for val those of the ledger's best epoch do, too."""
        if self.evaluation is not None:
            return self.evaluation.summary
        return self.from_ledger if self.split == "val" else {}

    @cached_property
    def from_ledger(self) -> Mapping[str, Any]:
        """Validation metrics of the best epoch (or the last one with any), from the ledger."""
        best = as_float(self.record.best.get("epoch"))
        rows = [
            row for row in self.record.rows if any(c for k, c in row.items() if k[:4] == "val/")
        ]
        row = next((row for row in rows if as_float(row["epoch"]) == best), None)
        row = row or (rows[-1] if rows else {})
        return {name[4:]: cell for name, cell in row.items() if name[:4] == "val/" and cell}

    def metric(self, name: str) -> float:
        """A metric on the split; NaN where it is not known."""
        return as_float(self.summary.get(name))


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, seeds apart.

    Attributes:
        label: shown everywhere.
        values: differing key -> this group's value, as words.
        flat: the configuration, flat.
        runs: all of them, in the order given.
    """

    label: str
    values: Mapping[str, str]
    flat: Flat
    runs: tuple[ComparedRun, ...]

    @property
    def counted(self) -> list[ComparedRun]:
        """The runs that statistics are made of."""
        return [run for run in self.runs if not run.left_out]

    @property
    def measured(self) -> list[ComparedRun]:
        """The counted runs with results case by case."""
        return [run for run in self.counted if run.evaluation is not None]

    def statistic(self, metric: str) -> tuple[float, float]:
        """Mean and sample standard deviation of a metric over the counted runs (seeds)."""
        return mean_sd([run.metric(metric) for run in self.counted])


@dataclass
class Study:
    """What is compared.

    Attributes:
        groups: in the order in which their first runs were given.
        keys: differing configuration key -> its short name.
        split: of the metrics.
        notes: what a reader must know, a sentence each.
    """

    groups: list[Group]
    keys: dict[str, str]
    split: str
    notes: list[str] = field(default_factory=list)

    @property
    def runs(self) -> list[tuple[Group, ComparedRun]]:
        """Every run with its group."""
        return [(group, run) for group in self.groups for run in group.runs]

    def higher_is_better(self, metric: str) -> bool | None:
        """Which end of a metric is the good one; None: neither, or no run says."""
        records = [run.record.status for _, run in self.runs]
        return higher_is_better(metric, recorded_in([*records, *(r.summary for _, r in self.runs)]))

    def matching(self, word: str) -> list[Group]:
        """The groups that a run's name, folder, id (or its beginning), or key=value picks."""
        return [group for group in self.groups if _matches(group, word)]


def left_out(records: Sequence[RunRecord]) -> list[str]:
    """For each run why statistics leave it out, or nothing: unfinished, or there twice."""
    seen: dict[str, RunRecord] = {}
    reasons = []
    for record in records:
        if not record.finished:
            reasons.append(f"{record.state}: {record.reason}" if record.reason else record.state)
        elif record.id and record.id in seen:
            reasons.append(f"the same run as {seen[record.id].path}")
        else:
            reasons.append("")
            seen[record.id] = record
    return reasons


def build_study(runs: Sequence[ComparedRun], labels: Sequence[str] = ()) -> Study:
    """Group runs by configuration and name what tells the groups apart.

    Args:
        runs: in the order they shall be shown; at least one.
        labels: names for the groups, in order, instead of those made of what differs.

    Raises:
        ConfigError: more labels than groups.
    """
    known = {run.record.config.get(_DATA) for run in runs} - {None}
    flats: list[Flat] = []
    for run in runs:
        flat = _defining(run.record, several_data=len(known) > 1)
        if flat and flat not in flats:
            flats.append(flat)
    keys = short_names(differing_keys(flats))
    members: dict[str, list[ComparedRun]] = {}
    of_key: dict[str, Flat] = {}
    for run in runs:
        flat = _defining(run.record, several_data=len(known) > 1)
        flat = flat or _of_a_job(run.record, flats, keys)
        name = repr(sorted(flat.items())) if flat else str(run.record.path)
        members.setdefault(name, []).append(run)
        of_key[name] = flat
    values = {n: {k: words_of(f[k]) if k in f else "–" for k in keys} for n, f in of_key.items()}
    made = [_label(inside[0].record, values[n], keys) for n, inside in members.items()]
    if len(labels) > len(made):
        raise ConfigError(
            f"labels: {len(labels)} names for {len(made)} configurations ({'; '.join(made)})"
        )
    named = _distinct([*labels, *made[len(labels) :]])
    groups = [
        Group(label, values[name], of_key[name], tuple(members[name]))
        for label, name in zip(named, members, strict=True)
    ]
    return Study(groups, keys, runs[0].split)


def _defining(record: RunRecord, *, several_data: bool) -> Flat:
    """What makes a run what it is; with the data's digest, where runs of other data are there."""
    flat = defining(record.config)
    data = {_DATA: str(record.config.get(_DATA))[:_DIGITS]} if flat and several_data else {}
    return flat | data


def _of_a_job(record: RunRecord, flats: Sequence[Flat], keys: Mapping[str, str]) -> Flat:
    """What a run without a configuration is, going by what its sweep varied.

    That is a group's own configuration where the two agree in all that differs.
    """
    known = [key for flat in flats for key in flat]
    told = {
        found[0]: value
        for key, value in record.varied.items()
        if key != "seed" and len(found := list(dict.fromkeys(find_key(key, known))) or [key]) == 1
    }
    for flat in flats:
        if told and all(words_of(told.get(k)) == words_of(flat.get(k)) for k in keys):
            return flat
    return told


def _label(record: RunRecord, values: Mapping[str, str], keys: Mapping[str, str]) -> str:
    told = [f"{keys[key]}={value}" for key, value in values.items() if value != "–"]
    return ", ".join(told) or re.sub(r"-s\d+$", "", record.name)


def _distinct(labels: Sequence[str]) -> list[str]:
    """The labels, numbered where two are the same."""
    return [
        label
        if list(labels).count(label) == 1
        else f"{label} ({list(labels[: i + 1]).count(label)})"
        for i, label in enumerate(labels)
    ]


def _matches(group: Group, word: str) -> bool:
    if any(_is(run.record, word) for run in group.runs) or group.label == word:
        return True
    pairs = [part.split("=", 1) for part in word.split(",") if "=" in part]
    return bool(pairs) and all(_has(group.flat, key.strip(), value) for key, value in pairs)


def _is(record: RunRecord, word: str) -> bool:
    if word in (record.name, record.path.name):
        return True
    if len(word) >= 4 and record.id.startswith(word):
        return True
    return Path(word).is_dir() and Path(word).resolve() == record.path.resolve()


def _has(flat: Flat, key: str, value: str) -> bool:
    found = find_key(key, list(flat))
    return any(words_of(flat[one]) == words_of(_number(value.strip())) for one in found)


def _number(text: str) -> object:
    """A typed value as a configuration holds it, so that 1e-3 finds 0.001."""
    try:
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    except ValueError:
        return text
