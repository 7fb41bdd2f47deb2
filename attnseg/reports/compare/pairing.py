"""Which group is compared with which, and the differences case by case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnseg.common.errors import ConfigError
from attnseg.reports.compare.evaluations import CaseRow
from attnseg.reports.compare.statistics import (
    FEW_PATIENTS,
    FEWEST_TESTED,
    Values,
    bootstrap_interval,
    holm,
    patient_means,
    signed_rank,
)
from attnseg.reports.compare.study import IN_CASES, ComparedRun, Group, Study
from attnseg.reports.style import as_float

Cases = Mapping[str, CaseRow]


@dataclass(frozen=True)
class Comparison:
    """One metric of one group against its baseline: group minus baseline, mean over cases.

    Attributes:
        group, baseline: labels.
        metric: a column of cases.csv.
        difference: NaN where there is no pair.
        low, high: ends of the bootstrap interval over patients.
        p: of the signed-rank test over patients, each the mean of its cases.
        p_holm: the same, corrected over all tests of the study.
        n_cases, n_patients: that have a value on both sides.
        n_seeds: counted runs of the group and of its baseline; a case's value is their mean.
        note: what weakens the result, or why there is none.
    """

    group: str
    baseline: str
    metric: str
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_holm: float = math.nan
    n_cases: int = 0
    n_patients: int = 0
    n_seeds: tuple[int, int] = (0, 0)
    note: str = ""


@dataclass(frozen=True)
class Sampling:
    """How the intervals are drawn."""

    confidence: float = 0.95
    n_resamples: int = 10_000
    seed: int = 0


def choose_baselines(study: Study, word: str | None) -> dict[str, Group]:
    """Group label -> the group it is compared with.

    Without a word that is the first group. `key=value` may pick several: then each other group
    is compared with the one among them that is like it in every other differing key.

    Raises:
        ConfigError: the word picks nothing, or several that a name cannot choose between.
    """
    if word is None:
        picked = study.groups[:1]
    else:
        picked = study.matching(word)
        known = "; ".join(group.label for group in study.groups)
        if not picked:
            raise ConfigError(f"baseline={word}: fits no run here; there are: {known}")
        if len(picked) > 1 and "=" not in word:
            raise ConfigError(
                f"baseline={word}: fits {len(picked)} configurations; choose one by its id or by "
                f"key=value: {known}"
            )
    chosen = {}
    for group in study.groups:
        if any(group is one for one in picked):
            continue
        rivals = picked if len(picked) == 1 else _like(group, picked, study)
        if len(rivals) == 1:
            chosen[group.label] = rivals[0]
        else:
            study.notes.append(f"{group.label}: no baseline that is like it in all else")
    return chosen


def compare_pairs(
    study: Study, baselines: Mapping[str, Group], metrics: Sequence[str], sampling: Sampling
) -> list[Comparison]:
    """Every group against its baseline in every metric, Holm-corrected over all of them.

    Args:
        study: groups whose measured runs have the same cases; others are refused with a note.
        baselines: of `choose_baselines`.
        metrics: names of run-level metrics; those without a value a case are left out.
        sampling: of the bootstrap.
    """
    found: list[Comparison] = []
    for group in study.groups:
        baseline = baselines.get(group.label)
        if baseline is None:
            continue
        refusal = _refusal(group, baseline)
        if refusal:
            found.append(Comparison(group.label, baseline.label, "", note=refusal))
            study.notes.append(f"{group.label} against {baseline.label}: {refusal}")
            continue
        for metric in dict.fromkeys(IN_CASES.get(name, name) for name in metrics):
            compared = _compare(group, baseline, metric, sampling)
            if compared is not None:
                found.append(compared)
    if any(min(one.n_seeds) == 1 for one in found):
        study.notes.append(
            "Where a side has one seed, the differences hold for these trained models: how much "
            "another seed would change is not in the intervals."
        )
    for note in dict.fromkeys(one.note for one in found if one.metric and not one.n_cases):
        some = list(dict.fromkeys(o.metric for o in found if o.metric and o.note == note))
        study.notes.append(f"No difference case by case in {', '.join(some)}: {note}.")
    corrected = holm([one.p for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, corrected, strict=True)]


def case_values(group: Group, metric: str) -> dict[str, float]:
    """Case id -> mean of a metric over the group's measured runs; cases without one are absent."""
    tables = [_cases(run) for run in group.measured]
    values = {}
    for case_id in sorted(tables[0]) if tables else []:
        known = [as_float(table.get(case_id, {}).get(metric)) for table in tables]
        if all(math.isfinite(value) for value in known):
            values[case_id] = math.fsum(known) / len(known)
    return values


def _like(group: Group, picked: Sequence[Group], study: Study) -> list[Group]:
    """Those picked that differ from the group in what tells the picked from the rest only."""
    shared = [key for key in study.keys if len({one.values[key] for one in picked}) > 1]
    return [one for one in picked if all(one.values[key] == group.values[key] for key in shared)]


def _refusal(group: Group, baseline: Group) -> str:
    """Why two groups cannot be paired case by case; empty where they can."""
    for one in (group, baseline):
        if not one.measured:
            return f"no finished run of {one.label} is measured case by case"
    first, *others = [*baseline.measured, *group.measured]
    ours = _cases(first)
    for other in others:
        theirs = _cases(other)
        if ours.keys() != theirs.keys():
            return _different(first, ours, other, theirs)
        changed = [case for case in sorted(ours) if _truth(ours[case]) != _truth(theirs[case])]
        if changed:
            return (
                f"{len(changed)} cases have another ground truth in {other.record.name} than in "
                f"{first.record.name} (e.g. {changed[0]}): the data differ, so nothing is paired"
            )
    return ""


def _different(first: ComparedRun, ours: Cases, other: ComparedRun, theirs: Cases) -> str:
    only = [sorted(a.keys() - b.keys()) for a, b in ((ours, theirs), (theirs, ours))]
    parts = [
        f"{len(ids)} only in {run.record.name} (e.g. {ids[0]})"
        for ids, run in zip(only, (first, other), strict=True)
        if ids
    ]
    return "measured on different cases, so nothing is paired: " + ", ".join(parts)


def _truth(row: CaseRow) -> tuple[str, ...]:
    """What must agree for two rows to be of the same picture at the same size."""
    if not row.get("height"):
        return ()
    return tuple(row.get(name, "") for name in ("height", "width", "n_mask_pixels"))


def _compare(group: Group, baseline: Group, metric: str, sampling: Sampling) -> Comparison | None:
    """One metric; None where no run has it case by case."""
    rows = _cases(baseline.measured[0])
    if not any(
        metric in row
        for run in (*group.measured, *baseline.measured)
        for row in list(_cases(run).values())[:1]
    ):
        return None
    ours, theirs = case_values(group, metric), case_values(baseline, metric)
    shared = [case_id for case_id in ours if case_id in theirs]
    seeds = (len(group.measured), len(baseline.measured))
    result = Comparison(group.label, baseline.label, metric, n_seeds=seeds)
    if not shared:
        sides = [one.label for one, v in ((group, ours), (baseline, theirs)) if not v]
        return replace(result, note=f"not defined for {' and '.join(sides) or 'any shared case'}")
    values = np.array([ours[case_id] - theirs[case_id] for case_id in shared])
    patients = [rows[case_id].get("patient_id") or case_id for case_id in shared]
    means = patient_means(values, patients)
    low, high = bootstrap_interval(
        values,
        patients,
        confidence=sampling.confidence,
        n_resamples=sampling.n_resamples,
        seed=sampling.seed,
    )
    unpaired = len(ours.keys() ^ theirs.keys())
    return replace(
        result,
        difference=float(values.mean()),
        low=low,
        high=high,
        p=signed_rank(means),
        n_cases=len(shared),
        n_patients=len(means),
        note="; ".join(_weaknesses(means, unpaired)),
    )


def _weaknesses(means: Values, unpaired: int) -> list[str]:
    """What a reader must hold against a result: of the patients' means, and of cases left out."""
    words = []
    n_patients, tested = len(means), int(np.count_nonzero(means))
    if n_patients < 2:
        words.append("one patient: no interval")
    elif n_patients < FEW_PATIENTS:
        words.append(f"too few: the interval of {n_patients} patients is too narrow")
    if 0 < tested < FEWEST_TESTED:
        words.append(f"too few: {tested} differing patients cannot reach p < 0.05")
    if unpaired:
        words.append(f"{unpaired} cases have a value on one side only")
    return words


def _cases(run: ComparedRun) -> Cases:
    return run.evaluation.cases if run.evaluation is not None else {}
