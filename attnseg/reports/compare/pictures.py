"""The same cases side by side, from the maps that evaluations kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnseg.reports.cases import positives
from attnseg.reports.compare.evaluations import Evaluation
from attnseg.reports.compare.maps import FILE, read_maps
from attnseg.reports.compare.study import ComparedRun, Group, Study
from attnseg.reports.overlays import draw_comparison
from attnseg.reports.style import as_float

_ABREAST = 3  # runs in one picture: more and nobody sees a nodule


def wanted_cases(evaluation: Evaluation, n_cases: int, named: Sequence[str]) -> list[str]:
    """Ids of the cases to show: those named that there are, else the first with a lesion."""
    if named:
        return [case_id for case_id in named if case_id in evaluation.cases]
    rows = positives(list(evaluation.cases.values()))
    return sorted(str(row["case_id"]) for row in rows)[:n_cases]


def representative(group: Group) -> ComparedRun | None:
    """The run whose pictures stand for its group: the measured one with the lowest seed."""
    return min(group.measured, key=lambda run: as_float(run.record.seed), default=None)


def draw_cases(study: Study, case_ids: Sequence[str], folder: Path) -> list[Path]:
    """Draw comparison.png (and comparison-2.png, ... for many groups); returns those drawn.

    A group without maps of a case that the others have is left out, with a note.
    """
    drawn = {}
    headers = {}
    for group in study.groups:
        run = representative(group)
        if run is None or run.evaluation is None:
            continue
        maps = read_maps(run.evaluation.folder / FILE, run.evaluation.made_of)
        label = group.label if len(group.runs) == 1 else f"{group.label}, seed {run.record.seed}"
        cases = [maps[case_id] for case_id in case_ids if case_id in maps]
        if len(cases) == len(case_ids):
            drawn[label] = cases
            names = {"attention_gt_overlap", "attention_gt_distance", "attention_seg_corr"}
            headers[label] = {name: run.metric(name) for name in (*names, "dice_positive")}
        else:
            study.notes.append(f"{group.label}: no pictures of these cases (not kept, or no model)")
    if not drawn or not case_ids:
        return []
    labels = list(drawn)
    paths = []
    for start in range(0, len(labels), _ABREAST):
        part = labels[start : start + _ABREAST]
        name = "comparison.png" if start == 0 else f"comparison-{start // _ABREAST + 1}.png"
        some = {label: drawn[label] for label in part}
        paths.append(draw_comparison(some, folder / name, {k: headers[k] for k in part}))
    return paths
