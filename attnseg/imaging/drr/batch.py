"""Projecting CTs, one or many: in worker processes, each volume's failure its own."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from attnseg.common.errors import ConfigError, DataError, UserError
from attnseg.common.files import user_path
from attnseg.common.parallel import default_workers, for_each
from attnseg.config.drr import DrrConfig
from attnseg.imaging.drr.jobs import Found, Job, find_jobs
from attnseg.imaging.drr.outputs import (
    done_rows,
    output_folder,
    refuse_foreign,
    write_case,
    write_manifest,
)
from attnseg.imaging.drr.reading import read_ct, read_nodules
from attnseg.imaging.drr.renderers import find_renderer
from attnseg.imaging.drr.sheet import draw_sheet
from attnseg.imaging.drr.views import all_views, project_view

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Outcome:
    """How one volume fared.

    Attributes:
        case: its name.
        rows: of the manifest, empty where it failed.
        notes: what the user should know of it.
        problem: why it failed, in words.
        fault: whether that was not the input's.
    """

    case: str
    rows: Rows = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str | None = None
    fault: bool = False


@dataclass(frozen=True)
class Summary:
    """What a run of `attnseg drr` did.

    Attributes:
        n_projected, n_skipped: volumes made now, and found done.
        failures: a line a volume that could not be projected.
        notes: a line a thing worth knowing.
        manifest, sheet: files written; None where there was nothing to put in.
        n_rows: of the manifest.
    """

    n_projected: int
    n_skipped: int
    failures: list[str]
    notes: list[str]
    manifest: Path | None
    sheet: Path | None
    n_rows: int


def project_all(config: DrrConfig) -> Summary:
    """Find the volumes, project what is not done, write manifest and contact sheet.

    Raises:
        UserError: nothing can be done, or the only volume is wrong.
    """
    find_renderer(config.projection.renderer)  # before anything is read
    _check_device(config.device)
    found = find_jobs(config)
    _refuse_nothing(found)
    out = user_path(config.out)
    refuse_foreign(out, found.jobs, [user_path(config.ct)])
    with output_folder(out):
        done = {
            job.case: rows
            for job in found.jobs
            if not config.overwrite and (rows := done_rows(out, config, job)) is not None
        }
        jobs = [job for job in found.jobs if job.case not in done]
        outcomes = _run(config, out, jobs, alone=found.single)
        made = {outcome.case: outcome.rows for outcome in outcomes}
        rows = [row for job in found.jobs for row in {**made, **done}[job.case]]
        failed = [outcome for outcome in outcomes if outcome.problem is not None]
        manifest = write_manifest(out, rows) if rows else None
        sheet = draw_sheet(out, rows, config.n_pictures) if rows and config.n_pictures else None
    return Summary(
        n_projected=len(outcomes) - len(failed),
        n_skipped=len(done),
        failures=[*found.problems, *(f"{one.case}: {one.problem}" for one in failed)],
        notes=[f"{one.case}: {note}" for one in outcomes for note in one.notes],
        manifest=manifest,
        sheet=sheet,
        n_rows=len(rows),
    )


def project_job(job: Job, config: DrrConfig, out: Path) -> Outcome:
    """Read, project and write one volume; whatever goes wrong becomes its outcome."""
    try:
        ct = read_ct(job.ct, config.series, config.check_hu)
        nodules = read_nodules(job.mask, ct, config.masks) if job.mask is not None else None
        projections = [
            project_view(ct, nodules, config.projection, view, config.device, config.chunk_mb)
            for view in all_views(config.projection, job.case)
        ]
        rows = write_case(out, config, job, ct, nodules, projections)
    except UserError as error:
        return Outcome(job.case, problem=str(error))
    except OSError as error:  # the disk is full, say
        return Outcome(job.case, problem=str(error), fault=True)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{Path(where.filename).name}:{where.lineno}"
        return Outcome(job.case, problem=f"{type(error).__name__} at {at}: {error}", fault=True)
    notes = [
        f"view {projection.view.name}: no ray meets nodule {number}: it lies beside the detector, "
        "or is too small for its pixels (projection.rays_per_pixel)"
        for projection in projections
        for number in (projection.nodules.missed if projection.nodules else ())
    ]
    return Outcome(job.case, rows, notes)


def _run(config: DrrConfig, out: Path, jobs: Sequence[Job], *, alone: bool) -> list[Outcome]:
    workers = default_workers() if config.workers is None else config.workers
    if config.device != "cpu":
        workers = 0  # a GPU is not shared with forked processes
    try:
        outcomes = for_each(
            partial(project_job, config=config, out=out),
            jobs,
            description="projecting",
            workers=min(workers, len(jobs)),
            progress=config.progress_bar and bool(jobs),
            worth_processes=2,
        )
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "a worker process was killed, perhaps for want of memory; give the same command with "
            "fewer workers: what is done stays done"
        ) from None
    if alone and outcomes and outcomes[0].problem is not None and not outcomes[0].fault:
        raise DataError(outcomes[0].problem)
    return outcomes


def _refuse_nothing(found: Found) -> None:
    if found.jobs:
        twice = sorted({job.case for job in found.jobs if _count(found.jobs, job.case) > 1})
        if twice:
            raise DataError(f"cases of one name: {', '.join(twice)}; rename the CTs")
        return
    raise DataError("no CT can be projected:", found.problems)


def _count(jobs: Sequence[Job], case: str) -> int:
    return sum(job.case == case for job in jobs)


def _check_device(name: str) -> None:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name}: no such device; use cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: no CUDA GPU is here; use device=cpu")
