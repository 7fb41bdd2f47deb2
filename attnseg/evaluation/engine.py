"""The evaluation engine: a model and batches of cases -> a row per case and a summary.

Streams: of a case nothing stays but its row of numbers. The summary is what
`attnseg.metrics.collection.ValidationMetrics` computes, the same code that watches training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attnseg.common.errors import DataError
from attnseg.common.files import csv_text, write_json, write_text
from attnseg.config.measures import RECORD, measure_of, own_measures
from attnseg.inference.batches import refuse_non_finite
from attnseg.metrics.batch import Batch
from attnseg.metrics.collection import ValidationMetrics
from attnseg.metrics.lesions import LesionMatch
from attnseg.metrics.named import NamedMetrics
from attnseg.nn.output import DualPathwayOutput

if TYPE_CHECKING:
    from attnseg.inference.predictor import Predictor
    from attnseg.nn.output import SegmentationModel

Number = float | int | None
Image = npt.NDArray[np.float32]

_EPSILON = 1e-7  # so that no log-odds are infinite

DESCRIPTION = (
    "case_id",
    "patient_id",
    "height",
    "width",
    "content_top",
    "content_left",
    "content_height",
    "content_width",
    "spacing_row_mm",
    "spacing_column_mm",
)
"""The columns of a row that say which case it is; its measures follow, in alphabetical order."""


@dataclass(frozen=True)
class EvaluatedCase:
    """What `on_case` sees of a case; keep the row if you like, but not the images.

    Attributes:
        row: its row of cases.csv.
        xray, drr, mask, attention, probability: (H, W) float32, padding included.
        content: top, left, height, width of the real image inside the padded square.
        match: what became of its lesions and candidates.
    """

    row: dict[str, Any]
    xray: Image
    drr: Image
    mask: Image
    attention: Image
    probability: Image
    content: tuple[int, int, int, int]
    match: LesionMatch


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found, in plain types.

    Attributes:
        summary: every metric by its name; None where it has no meaning for this model or data.
        cases: a row per case, sorted by case id; None where a measure has no meaning.
        measures: what metrics that are not ours say of themselves.
    """

    summary: dict[str, Number]
    cases: list[dict[str, Any]]
    measures: Mapping[str, Any] = field(default_factory=dict)


def evaluate_batches(
    model: SegmentationModel | Predictor,
    batches: Iterable[Mapping[str, Any]],
    *,
    threshold: float,
    device: torch.device | str = "cpu",
    progress: Callable[[int], object] | None = None,
    on_case: Callable[[EvaluatedCase], object] | None = None,
    named: NamedMetrics | None = None,
) -> EvaluationResult:
    """Evaluate a model on batches of full images, in bounded memory and without gradients.

    Args:
        model: moved to `device`, run in eval mode, and left in the mode it came in. A predictor
            brings an ensemble, test-time augmentation or MC dropout.
        batches: dicts as `attnseg.data` makes them (xray, drr, mask, case_id, patient_id,
            spacing, content), every case once.
        threshold: a pixel is predicted where its probability is strictly above it.
        device: where to run.
        progress: called after each batch with the number of its cases.
        on_case: called for each case, in the order of the batches.
        named: further metrics. Of an output they see the (mean) maps, and as logits theirs.

    Raises:
        CheckpointError: the model's output is not finite.
        DataError: there is no case.
    """
    model.to(device)
    has_attention = bool(model.has_attention)
    metrics = ValidationMetrics(threshold, has_attention=has_attention, evaluation=True).to(device)
    named = (named or NamedMetrics({})).to(device)
    named.reset()
    rows: list[dict[str, Any]] = []
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                attention, probability = _predict(model, batch, device)
                metrics.update(
                    attention,
                    probability,
                    batch["mask"].to(device),
                    batch["spacing"].to(device),
                    batch["case_id"],
                )
                named.update(_as_output(attention, probability), Batch.of(batch, device))
                new = _rows(batch, metrics.last())
                rows += new
                if on_case is not None:
                    matches = metrics.last_matches()
                    _show(on_case, batch, new, attention, probability, matches)
                if progress is not None:
                    progress(len(new))
            if not rows:
                raise DataError("there is no case to evaluate")
            summary = metrics.compute()
            summary |= named.compute(summary)
    finally:
        model.train(was_training)
    missing: dict[str, Number] = {
        name: None
        for name, measure in own_measures().items()
        if measure.needs_attention and not has_attention
    }
    rows.sort(key=lambda row: str(row["case_id"]))
    values = {name: finite(value) for name, value in summary.items()}
    return EvaluationResult({**missing, **values}, rows, named.record())


def write_results(
    result: EvaluationResult, output_dir: Path, about: Mapping[str, Any] | None = None
) -> None:
    """Write metrics.json, metrics_definitions.json (unit and meaning of each key), cases.csv.

    Each file is replaced as a whole, metrics.json last: it says what the others are of. An
    undefined value is null in JSON, empty in CSV.

    Args:
        result: what to write.
        output_dir: where; made if need be.
        about: what was measured (split, checkpoint, ...), added to metrics.json.
    """
    names = sorted(result.summary)
    definitions = {name: _line(name, result.measures) for name in names}
    write_json(output_dir / "metrics_definitions.json", definitions)
    measures = {name for row in result.cases for name in row} - set(DESCRIPTION)
    table = csv_text([*DESCRIPTION, *sorted(measures)], result.cases)
    write_text(output_dir / "cases.csv", table)
    measured = {name: result.summary[name] for name in names}
    meaning = {RECORD: result.measures} if result.measures else {}
    write_json(output_dir / "metrics.json", {**measured, **meaning, **(about or {})})


def _line(name: str, measures: Mapping[str, Any]) -> str:
    measure = measure_of(name, measures)
    assert measure is not None, f"metric without a definition: {name}"
    return measure.line


def finite(value: float) -> Number:
    """The value, or None for NaN and infinity, which JSON has no word for."""
    return value if math.isfinite(value) else None


def _predict(
    model: SegmentationModel | Predictor, batch: Mapping[str, Any], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Attention and probability of a batch, both (B, 1, H, W) float32 and finite."""
    from attnseg.inference.predictor import Predictor

    xray, drr = batch["xray"].to(device), batch["drr"].to(device)
    if isinstance(model, Predictor):
        maps = model(xray, drr, batch["case_id"])
        attention, probability = maps.attention, maps.probability
    else:
        output = model(xray, drr)
        attention, probability = output.attention.float(), output.mask_logits.float().sigmoid()
    refuse_non_finite(attention, probability, batch["case_id"])
    return attention, probability


def _as_output(attention: Tensor, probability: Tensor) -> DualPathwayOutput:
    """Maps (B, 1, H, W) as a network's output, with their own log-odds."""
    mask_logits, attention_logits = (
        torch.logit(one, eps=_EPSILON) for one in (probability, attention)
    )
    return DualPathwayOutput(mask_logits, attention_logits, attention)


def _rows(batch: Mapping[str, Any], measures: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Description and measures of each case of a batch, in plain types."""
    height, width = batch["mask"].shape[-2:]
    rows = []
    for index, values in enumerate(measures):
        row, column = batch["spacing"][index].tolist()
        identity = (batch["case_id"][index], batch["patient_id"][index])
        place = (int(height), int(width), *batch["content"][index].tolist())
        described = dict(
            zip(DESCRIPTION, (*identity, *place, finite(row), finite(column)), strict=True)
        )
        rows.append({**described, **{name: finite(value) for name, value in values.items()}})
    return rows


def _show(
    on_case: Callable[[EvaluatedCase], object],
    batch: Mapping[str, Any],
    rows: list[dict[str, Any]],
    attention: Tensor,
    probability: Tensor,
    matches: Sequence[LesionMatch],
) -> None:
    """Hand each case of a batch to the caller."""
    maps = (batch["xray"], batch["drr"], batch["mask"], attention, probability)
    images = [one[:, 0].float().cpu().numpy() for one in maps]
    for index, row in enumerate(rows):
        top, left, height, width = batch["content"][index].tolist()
        xray, drr, mask, seen, said = (image[index] for image in images)
        content = (top, left, height, width)
        on_case(EvaluatedCase(row, xray, drr, mask, seen, said, content, matches[index]))
