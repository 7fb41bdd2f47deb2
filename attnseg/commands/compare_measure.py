"""What `compare` does where results are missing: measure best.ckpt, and keep some cases' maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnseg.commands.measure import Job, measure, prepare
from attnseg.commands.pictures import maps_of
from attnseg.config import CompareConfig
from attnseg.config.grammar import assignment
from attnseg.errors import UserError
from attnseg.reports.compare.evaluations import (
    Evaluation,
    evaluation_folder,
    older_than_best,
    read_evaluation,
)
from attnseg.reports.compare.study import ComparedRun, left_out
from attnseg.runs.records import RunRecord


def measured_runs(
    records: Sequence[RunRecord], config: CompareConfig, *, measure: bool
) -> tuple[list[ComparedRun], list[str]]:
    """Every run with its results on the split, and what could not be had.

    Args:
        records: the runs.
        config: split, cases, how to compute.
        measure: make what is missing or older than best.ckpt; only finished runs are measured.
    """
    problems: list[str] = []
    runs = []
    reasons = left_out(records)
    todo = sum(not reason for reason in reasons)
    done = 0
    for record, reason in zip(records, reasons, strict=True):
        evaluation, missing = (None, "") if reason else read_evaluation(record, config.split)
        if not reason and measure:
            done += 1
            try:
                evaluation = _complete(record, evaluation, config, f"[{done}/{todo}]")
                missing = ""
            except UserError as error:
                missing = f"cannot be measured on the {config.split} split: {error}"
        if missing:
            ledger = "; its figures are the ledger's" if config.split == "val" else ""
            problems.append(f"{record.name}: {missing}{ledger}")
        runs.append(ComparedRun(record, evaluation, config.split, reason))
    return runs, problems


def _complete(
    record: RunRecord, evaluation: Evaluation | None, config: CompareConfig, place: str
) -> Evaluation:
    """The run's evaluation with the maps of the wanted cases, made where it is missing."""
    from attnseg.reports.compare.maps import FILE, read_maps
    from attnseg.reports.compare.pictures import wanted_cases

    job: Job | None = None
    if evaluation is None:
        job = _job(record, config)
        measure(job, f"{place} {record.name}: {config.split} split")
        evaluation, why = read_evaluation(record, config.split)
        assert evaluation is not None, why
    wanted = wanted_cases(evaluation, config.n_cases, config.cases)
    path = evaluation.folder / FILE
    fresh = path.is_file() and not older_than_best(path, record)
    kept = read_maps(path) if fresh and job is None else {}
    if any(case_id not in kept for case_id in wanted) and record.folder.best.is_file():
        _keep_maps(job or _job(record, config), [*kept, *wanted], path)
    return evaluation


def _keep_maps(job: Job, case_ids: Sequence[str], path: Path) -> None:
    """Run the model over these cases once more and keep their images beside cases.csv."""
    from attnseg.data.datamodule import AttnSegDataModule
    from attnseg.prediction.predictor import predictor_of
    from attnseg.reports.compare.maps import write_maps

    model = predictor_of(job.members, job.passes)
    module = AttnSegDataModule(job.data, job.checkpoint.config.seed)
    write_maps(maps_of(job, model, module, case_ids, job.checkpoint.threshold), path)


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
