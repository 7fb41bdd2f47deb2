"""Pictures of some cases of an evaluation: the model looks at them once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attnseg.common.memory import ready_device

if TYPE_CHECKING:
    from attnseg.data.datamodule import AttnSegDataModule
    from attnseg.evaluation.engine import EvaluatedCase
    from attnseg.evaluation.job import Job
    from attnseg.inference.predictor import Predictor
    from attnseg.reports.overlays import OverlayCase


def draw_gallery(
    job: Job,
    model: Predictor,
    module: AttnSegDataModule,
    rows: Sequence[Mapping[str, Any]],
    threshold: float,
) -> None:
    """Write overlays/{best,median,worst}.png, a third of `n_pictures` each, positive cases by Dice.

    Args:
        job: what was measured; says where to write.
        model, module: the job's, as they were measured.
        rows: of cases.csv, every case.
        threshold: of the mask that is drawn.
    """
    from attnseg.reports.overlays import draw_overlays

    groups = chosen_cases(rows, job.config.n_pictures)
    wanted = list(dict.fromkeys(case_id for ids in groups.values() for case_id in ids))
    maps = maps_of(job, model, module, wanted, threshold) if wanted else []
    shown = {case.case_id: case for case in maps}
    for name, ids in groups.items():
        if ids:
            path = job.output_dir / "overlays" / f"{name}.png"
            draw_overlays([shown[case_id] for case_id in ids], path, f"{name} cases by Dice")


def chosen_cases(rows: Sequence[Mapping[str, Any]], n_pictures: int) -> dict[str, list[str]]:
    """The ids of the best, the median and the worst positive cases by Dice, the best first."""
    positive = [row for row in rows if row["n_mask_pixels"]]
    ordered = [str(row["case_id"]) for row in sorted(positive, key=lambda row: -row["dice"])]
    each = min(-(-n_pictures // 3), len(ordered))
    middle = (len(ordered) - each) // 2
    return {
        "best": ordered[:each],
        "median": ordered[middle : middle + each],
        "worst": ordered[len(ordered) - each :],
    }


def maps_of(
    job: Job,
    model: Predictor,
    module: AttnSegDataModule,
    case_ids: Sequence[str],
    threshold: float,
) -> list[OverlayCase]:
    """Run the job's model over these cases of its split and keep their images."""
    from attnseg.evaluation.engine import evaluate_batches

    wanted = set(case_ids)
    cases = [case for case in module.cases(job.config.split) if case.case_id in wanted]
    kept: list[OverlayCase] = []
    evaluate_batches(
        model,
        module.loader_of(cases, batch_size=1, num_workers=0),
        threshold=threshold,
        device=ready_device(job.config.accelerator),
        on_case=lambda seen: kept.append(_overlay_case(seen, threshold)),
    )
    return kept


def _overlay_case(seen: EvaluatedCase, threshold: float) -> OverlayCase:
    """An evaluated case as the pictures take it."""
    from attnseg.reports.overlays import OverlayCase

    return OverlayCase(
        case_id=seen.row["case_id"],
        xray=seen.xray,
        drr=seen.drr,
        mask=seen.mask,
        attention=seen.attention,
        probability=seen.probability,
        threshold=threshold,
        metrics={k: v for k, v in seen.row.items() if isinstance(v, float)},
        content=seen.content,
    )
