"""Dividing cases into train, val and test by patient, reproducibly.

Patients are ordered by sha256 of "seed:patient", so a split depends on no random state, and a
patient more or less moves the boundaries but does not reshuffle the others.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.tables import read_table
from attnseg.config import SplitConfig
from attnseg.data.spelling import look_alikes, shown
from attnseg.imaging.case import Case

SplitName = Literal["train", "val", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Splits:
    """Cases by split, each in the source's order."""

    train: list[Case]
    val: list[Case]
    test: list[Case]

    def __getitem__(self, name: SplitName) -> list[Case]:
        cases: list[Case] = getattr(self, name)
        return cases


def make_splits(cases: Sequence[Case], config: SplitConfig) -> Splits:
    """Divide cases by patient as `config` says.

    Raises:
        ConfigError: the split file is missing, or there are too few patients.
        DataError: a patient is in two splits or in none, or no case is left for training.
    """
    if config.kind == "fixed":
        assignment = _fixed(cases, config)
    else:
        assignment = _drawn(ordered_patients(cases, config.seed), config)
    groups: dict[str, list[Case]] = {name: [] for name in SPLIT_NAMES}
    for case in cases:
        groups[assignment[case.patient_id]].append(case)
    splits = Splits(groups["train"], groups["val"], groups["test"])
    leaks = patient_overlap(splits)
    if leaks:
        raise DataError("patients are in more than one split:", leaks)
    if not splits.train:
        advice = "lower data.split.val_fraction and test_fraction, or add patients"
        if config.kind == "fixed":
            advice = "give some patients the split train"
        raise DataError(
            f"the training split is empty ({len(cases)} cases, data.split.kind={config.kind}); "
            f"{advice}"
        )
    return splits


def training_share(train: list[Case], config: SplitConfig) -> list[Case]:
    """The cases of `train_fraction` of the training patients, for learning curves.

    A smaller share is part of every larger one, and at least one patient is left.
    """
    patients = ordered_patients(train, config.seed)
    kept = set(patients[: _share(config.train_fraction, len(patients))])
    return [case for case in train if case.patient_id in kept]


def unused_split_column(cases: Sequence[Case], config: SplitConfig) -> str | None:
    """What to tell a user whose data set says who is in which split, and is not heard."""
    if config.kind == "fixed" or not any(case.split for case in cases):
        return None
    return (
        f"the manifest's split column is not used (data.split.kind={config.kind}); "
        "data.split.kind=fixed would"
    )


def ordered_patients(cases: Sequence[Case], seed: int) -> list[str]:
    """Every patient once, in the pseudo-random order that `seed` fixes."""
    patients = {case.patient_id for case in cases}
    return sorted(patients, key=lambda p: (hashlib.sha256(f"{seed}:{p}".encode()).digest(), p))


def patient_overlap(splits: Splits) -> list[str]:
    """One line for each patient whose cases are in more than one split."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in SPLIT_NAMES:
        for patient in sorted({case.patient_id for case in splits[name]}):
            found[patient].append(name)
    return [
        f"patient {patient}: in {' and '.join(names)}; give the patient one split"
        for patient, names in sorted(found.items())
        if len(names) > 1
    ]


def _drawn(patients: Sequence[str], config: SplitConfig) -> dict[str, SplitName]:
    """Test patients come first in the order, then validation; k-fold deals out what is left."""
    n_test = _share(config.test_fraction, len(patients))
    rest = patients[n_test:]
    assignment: dict[str, SplitName] = dict.fromkeys(patients[:n_test], "test")
    if config.kind == "kfold":
        if len(rest) < config.folds:
            raise ConfigError(
                f"data.split.folds={config.folds}, but there are only {len(rest)} patients to fold"
            )
        held_out = set(rest[config.fold :: config.folds])
    else:
        held_out = set(rest[: _share(config.val_fraction, len(patients))])
    for patient in rest:
        assignment[patient] = "val" if patient in held_out else "train"
    return assignment


def _share(fraction: float, count: int) -> int:
    """A wanted split is never empty for being rounded down."""
    return max(1, round(fraction * count)) if fraction > 0 else 0


def _fixed(cases: Sequence[Case], config: SplitConfig) -> dict[str, SplitName]:
    """The split that a file, or else the data set's own column, gives every patient."""
    if config.file is not None:
        rows = read_split_file(Path(config.file))
        source = config.file
    else:
        rows = [(case.patient_id, case.split or "") for case in cases]
        source = "the data set's split column"
        if not any(split for _, split in rows):
            raise ConfigError(
                "data.split.kind=fixed needs data.split.file=<CSV with columns patient, split>, "
                "or a manifest with a split column"
            )
    named: dict[str, set[str]] = defaultdict(set)
    for patient, split in rows:
        named[patient].add(split)
    problems = _fixed_problems(cases, named)
    if problems:
        raise DataError(f"{source} does not divide the patients:", problems)
    return {patient: _known(next(iter(splits))) for patient, splits in named.items()}


def _fixed_problems(cases: Sequence[Case], named: Mapping[str, set[str]]) -> list[str]:
    problems = []
    for patient, splits in sorted(named.items()):
        unknown = sorted(split for split in splits if split not in SPLIT_NAMES)
        if unknown:
            wrong = ", ".join(repr(split) for split in unknown)
            problems.append(f"patient {patient}: split is {wrong}; use train, val or test")
        elif len(splits) > 1:
            both = " and ".join(sorted(splits))
            problems.append(f"patient {patient}: in {both}; give the patient one split")
    return problems + _spelt_otherwise({case.patient_id for case in cases}, named)


def _spelt_otherwise(known: set[str], named: Mapping[str, set[str]]) -> list[str]:
    """Patients that the split file lacks, or knows under a second id with another split."""
    problems = []
    missing = sorted(known - named.keys())
    alike = {
        patient: others
        for group in look_alikes([*known, *named])
        for patient in known.intersection(group)
        if (others := [other for other in group if other in named and other not in known])
    }
    for patient in missing:
        if patient in alike:
            spelt = " and ".join(map(shown, alike[patient]))
            problems.append(f"patient {shown(patient)}: is {spelt} there; write it the same")
        else:
            problems.append(f"patient {patient}: has cases but no split; add a row")
    for patient in sorted(alike.keys() - set(missing)):
        for other in alike[patient]:
            if named[other] != named[patient]:
                problems.append(
                    f"patients {shown(patient)} and {shown(other)}: have different splits, and "
                    "their ids differ by spelling alone; take one row out"
                )
    return problems


def read_split_file(path: Path) -> list[tuple[str, str]]:
    """(patient, split) of every row of a CSV with those two columns.

    Raises:
        ConfigError: the file is missing or lacks a column.
    """
    if not path.is_file():
        raise ConfigError(f"data.split.file={path}: no such file")
    rows = read_table(path, ("patient", "split"))
    return [(row["patient"], row["split"]) for _, row in rows]


def _known(split: str) -> SplitName:
    for name in SPLIT_NAMES:
        if name == split:
            return name
    raise AssertionError(split)
