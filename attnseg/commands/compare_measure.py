"""What `compare` does where results are missing or hold no more: measure, and keep maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attnseg.commands.compare_check import Present, Standing
from attnseg.common.errors import UserError
from attnseg.config import CompareConfig
from attnseg.config.grammar import assignment
from attnseg.evaluation.job import Job, measure, prepare
from attnseg.evaluation.pictures import maps_of
from attnseg.reports.compare.evaluations import (
    Evaluation,
    evaluation_folder,
    older_than_best,
    read_evaluation,
)
from attnseg.reports.compare.study import ComparedRun, left_out
from attnseg.runs.records import RunRecord


def measured_runs(
    records: Sequence[RunRecord], config: CompareConfig, present: Present, *, measure: bool
) -> tuple[list[ComparedRun], list[str]]:
    """Every run with its results on the split, and what a reader must know of them.

    Args:
        records: the runs.
        config: split, cases, how to compute.
        present: tells which results still hold.
        measure: make what is missing or holds no more; only finished runs are measured.
    """
    problems: list[str] = []
    runs = []
    reasons = left_out(records)
    todo = sum(not reason for reason in reasons)
    done = 0
    for record, reason in zip(records, reasons, strict=True):
        run = ComparedRun(record, None, config.split, reason)
        told: list[str] = []
        if not reason:
            done += 1
            place = f"[{done}/{todo}]" if measure else None
            run, told = _with_results(record, config, present, place)
        problems += [f"{record.name}: {line}" for line in told]
        runs.append(run)
    return runs, problems


def _with_results(
    record: RunRecord, config: CompareConfig, present: Present, place: str | None
) -> tuple[ComparedRun, list[str]]:
    """A finished run with its results, which are made where `place` (in the list) is given."""
    split = f"the {config.split} split"
    evaluation, missing = read_evaluation(record, config.split)
    standing = Standing("missing", missing)
    if evaluation is not None:
        best = record.folder.best
        standing = present.standing(evaluation, best, record.config, config.split)
    kept = evaluation if standing.usable else None
    told: list[str] = []
    reason = ""
    if place is not None and standing.kind not in ("holds", "unchecked"):
        try:
            evaluation = kept = _measured(record, config, place)
            if standing.kind != "missing":
                told.append(f"measured again on {split}: {standing.why}")
            standing = Standing("holds")
        except UserError as error:
            standing = replace(standing, why=_joined(standing, split, error))
    if standing.kind == "other data":
        reason = f"its results on {split} do not hold: {standing.why}"
    elif standing.kind in ("unrecorded", "unchecked"):
        told.append(f"its results on {split} may not hold: {standing.why}")
    elif kept is None:
        told.append(standing.why + ("; its figures are the ledger's" * (config.split == "val")))
    if kept is not None:
        told += _pictures(record, kept, config) if place is not None else []
    told += _known_cases(record, kept, config.split)
    return ComparedRun(record, kept, config.split, reason), told


def _joined(standing: Standing, split: str, error: UserError) -> str:
    """Why there are no results that hold, and why none can be made."""
    if standing.kind == "missing":
        return f"cannot be measured on {split}: {error}"
    return f"{standing.why}, and it cannot be measured again: {error}"


def _known_cases(record: RunRecord, evaluation: Evaluation | None, split: str) -> list[str]:
    """A word on held-out cases whose patients trained the run, or what it began from."""
    if split not in ("val", "test"):
        return []
    if evaluation is not None:
        known, of = evaluation.summary.get("n_cases_seen_in_training"), len(evaluation.cases)
    else:  # the ledger's figures
        counts = record.status.get("validated_on_trained") if split == "val" else None
        known, of = (counts["cases"], counts["of"]) if counts else (0, 0)
    if not known:
        return []
    return [
        f"{known} of {of} cases are of patients that trained it or what it began from: its figures "
        "are too good"
    ]


def _measured(record: RunRecord, config: CompareConfig, place: str) -> Evaluation:
    """Measure best.ckpt on the split."""
    measure(_job(record, config), f"{place} {record.name}: {config.split} split")
    evaluation, why = read_evaluation(record, config.split)
    assert evaluation is not None, why
    return evaluation


def _pictures(record: RunRecord, evaluation: Evaluation, config: CompareConfig) -> list[str]:
    """Keep the maps of the wanted cases, where they are not; returns why some cannot be had."""
    from attnseg.reports.compare.maps import FILE, read_maps
    from attnseg.reports.compare.pictures import wanted_cases

    wanted = wanted_cases(evaluation, config.n_cases, config.cases)
    path = evaluation.folder / FILE
    aged = evaluation.weights is None and path.is_file() and older_than_best(path, record)
    kept = {} if aged else read_maps(path, evaluation.made_of)
    if all(case_id in kept for case_id in wanted) or not record.folder.best.is_file():
        return []
    try:
        _keep_maps(_job(record, config), [*kept, *wanted], path, evaluation)
    except UserError as error:
        return [f"no pictures of some of its cases: {error}"]
    return []


def _keep_maps(job: Job, case_ids: Sequence[str], path: Path, evaluation: Evaluation) -> None:
    """Run the model over these cases once more and keep their images beside cases.csv."""
    from attnseg.data.datamodule import AttnSegDataModule
    from attnseg.inference.predictor import predictor_of
    from attnseg.reports.compare.maps import write_maps

    model = predictor_of(job.members, job.passes)
    module = AttnSegDataModule(job.measured)
    maps = maps_of(job, model, module, case_ids, job.checkpoint.threshold)
    write_maps(maps, path, evaluation.made_of)


def _job(record: RunRecord, config: CompareConfig) -> Job:
    """`attnseg evaluate checkpoint=<run>/checkpoints/best.ckpt`, into the run's own folder."""
    folder = evaluation_folder(record, config.split)
    words = [
        assignment("checkpoint", str(record.folder.best)),
        assignment("output_dir", str(folder)),
        f"split={config.split}",
        f"accelerator={config.accelerator}",
        f"trust=[{','.join(config.trust)}]",
        "n_pictures=0",
    ]
    if config.batch_size:
        words.append(f"batch_size={config.batch_size}")
    return prepare("evaluate", words)
