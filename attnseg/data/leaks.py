"""One patient under two names, who could be trained on and measured at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from attnseg.data.findings import Finding, some
from attnseg.data.spelling import look_alikes, shown
from attnseg.data.splits import SPLIT_NAMES, Splits
from attnseg.imaging.case import Case
from attnseg.imaging.pictures import same_pictures


def split_of_patients(splits: Splits) -> dict[str, str]:
    """The split of every patient."""
    return {case.patient_id: name for name in SPLIT_NAMES for case in splits[name]}


def similar_patients(split_of: Mapping[str, str]) -> list[Finding]:
    """Patients whose ids differ by spelling alone: an error where they are in different splits.

    Args:
        split_of: every patient's split.
    """
    findings = []
    for group in look_alikes(split_of):
        apart = len({split_of[patient] for patient in group}) > 1
        names = some([f"{shown(patient)} ({split_of[patient]})" for patient in group])
        what = "is in different splits" if apart else "counts several times"
        findings.append(
            Finding(
                "error" if apart else "warning",
                f"patients {names}: the ids differ by case, leading zeros, separators or invisible "
                f"characters alone; if they are one patient, it {what}: give it one id (and "
                "different people ids that differ)",
            )
        )
    return findings


def shared_pictures(
    cases: Sequence[Case], sketches: npt.NDArray[np.int16], split_of: Mapping[str, str]
) -> list[Finding]:
    """Cases that show one picture, as X-ray or as DRR: an error where they count as two patients.

    Args:
        cases: those to compare.
        sketches: (n, 2, 33) of each one's X-ray and DRR, see `pictures.sketch`.
        split_of: the split of every patient; empty where nothing is divided.
    """
    findings = []
    for group in same_pictures(sketches.reshape(-1, sketches.shape[-1])):
        kinds = " or ".join(name for i, name in enumerate(("X-ray", "DRR")) if _has(group, i))
        members = [cases[index] for index in dict.fromkeys(row // 2 for row in group)]
        if len(members) < 2:
            continue  # X-ray and DRR of one case
        leaks = len({case.patient_id for case in members}) > 1
        names = some([_named(case, split_of) if leaks else case.case_id for case in members])
        what, advice = "it counts twice", "keep one"
        if leaks:
            what = "patients would leak between splits"
            advice = "keep one, or give all cases of one person the same patient id"
        findings.append(
            Finding(
                "error" if leaks else "warning",
                f"cases {names} have the same {kinds} pixels ({what}); {advice}",
            )
        )
    return findings


def constant_images(cases: Sequence[Case], sketches: npt.NDArray[np.int16]) -> list[Finding]:
    """Images of one value, whose sketches are 0."""
    return [
        Finding(
            "error", f"{path or case.case_id}: every pixel of the {name} is the same; replace it"
        )
        for case, rows in zip(cases, sketches, strict=True)
        for name, path, row in (("X-ray", case.xray, rows[0]), ("DRR", case.drr, rows[1]))
        if not row.any()
    ]


def _has(group: Sequence[int], kind: int) -> bool:
    return any(row % 2 == kind for row in group)


def _named(case: Case, split_of: Mapping[str, str]) -> str:
    split = split_of.get(case.patient_id)
    return f"{case.case_id} (patient {case.patient_id}{f', {split}' if split else ''})"
