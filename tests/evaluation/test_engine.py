"""The evaluation engine: rows, summary, files, and what it refuses."""

from __future__ import annotations

import csv
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnseg.common.errors import CheckpointError, DataError
from attnseg.evaluation.engine import DESCRIPTION, EvaluatedCase, evaluate_batches, write_results
from attnseg.metrics.collection import ValidationMetrics
from attnseg.metrics.mending import MENDED
from attnseg.nn.output import DualPathwayOutput

THRESHOLD = 0.35
RATES = (0.125, 0.25, 0.5, 1, 2, 4, 8)


class Echo(nn.Module):
    """Says what it is shown: the X-ray is its logits, the DRR its attention."""

    def __init__(self, *, has_attention: bool = True) -> None:
        super().__init__()
        self.has_attention = has_attention
        self.modes: set[bool] = set()
        self.graded: set[bool] = set()

    def forward(self, xray: Tensor, drr: Tensor) -> DualPathwayOutput:
        self.modes.add(self.training)
        self.graded.add(torch.is_grad_enabled())
        attention = drr if self.has_attention else torch.zeros_like(drr)
        return DualPathwayOutput(xray, torch.zeros_like(drr), attention)


def make_batches(n: int = 7, size: int = 3) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(n, 1, 32, 32)
    for case in range(n):
        if case % 3:
            mask[case, 0, case : case + 5, 10:15] = 1
    probability = (0.6 * mask + 0.4 * torch.rand(mask.shape, generator=generator)).clamp(0.01, 0.99)
    spacing = torch.full((n, 2), 0.7)
    spacing[1] = torch.nan
    whole = {
        "xray": probability.logit(),
        "drr": (0.5 * mask + 0.5 * torch.rand(mask.shape, generator=generator)),
        "mask": mask,
        "spacing": spacing,
        "content": torch.tensor([[0, 2, 32, 28]] * n),
    }
    ids = [f"c{(5 * i) % 7}" for i in range(n)]  # not in order
    return [
        {
            **{name: values[start : start + size] for name, values in whole.items()},
            "case_id": ids[start : start + size],
            "patient_id": [f"p-{name}" for name in ids[start : start + size]],
        }
        for start in range(0, n, size)
    ]


def evaluate(model: Echo | None = None, **options: Any) -> Any:
    return evaluate_batches(model or Echo(), make_batches(), threshold=THRESHOLD, **options)


def test_the_summary_is_what_the_metrics_compute() -> None:
    metrics = ValidationMetrics(THRESHOLD, evaluation=True)
    for batch in make_batches(size=2):
        maps = batch["drr"], batch["xray"].sigmoid(), batch["mask"]
        metrics.update(*maps, batch["spacing"], batch["case_id"])
    assert evaluate().summary == pytest.approx(
        {k: None if v != v else v for k, v in metrics.compute().items()}
    )


def test_has_every_key_that_the_issue_names() -> None:
    names = (
        "n_cases n_positive n_empty dice_positive dice_global dice_original iou_positive hd95 "
        "hd95_mm attention_gt_overlap seg_gt_overlap attention_seg_overlap attention_gt_corr "
        "seg_gt_corr attention_seg_corr attention_gt_distance attention_gt_distance_mm "
        "pointing_game_distance pointing_game_distance_mm attention_min attention_max "
        "attention_std pointing_game energy_inside area_baseline soft_iou nss "
        "false_positive_pixels_per_negative false_positive_lesions_per_negative"
    )
    wanted = [*names.split(), *(f"froc_sensitivity_at_{rate:g}" for rate in RATES)]
    summary = evaluate().summary
    assert not set(wanted) - set(summary)
    assert all(summary[name] is not None for name in wanted)
    assert (summary["n_cases"], summary["n_positive"], summary["n_empty"]) == (7, 4, 3)
    assert summary["threshold"] == THRESHOLD


def test_rows_are_complete_and_sorted_and_average_to_the_summary() -> None:
    result = evaluate()
    assert [row["case_id"] for row in result.cases] == [f"c{i}" for i in range(7)]
    assert all(row["patient_id"] == f"p-{row['case_id']}" for row in result.cases)
    same = [(name, name) for name in ("hd95", "nss", *MENDED)]
    for column, name in (("dice", "dice_positive"), *same):
        values = [row[column] for row in result.cases if row[column] is not None]
        assert len(values) == 4
        assert np.mean(values) == pytest.approx(result.summary[name])
    by_id = {row["case_id"]: row for row in result.cases}
    negative, unmeasured = by_id["c0"], by_id["c5"]
    assert negative["n_mask_pixels"] == negative["n_lesions"] == 0
    assert negative["dice"] is negative["dice_with_all_found"] is None
    assert unmeasured["hd95_mm"] is None
    assert unmeasured["spacing_row_mm"] is None
    assert unmeasured["hd95"] is not None


def test_runs_in_eval_mode_without_gradients_and_leaves_the_model_as_it_was() -> None:
    for training in (True, False):
        model = Echo().train(training)
        evaluate(model)
        assert model.modes == {False}
        assert model.graded == {False}
        assert model.training is training


def test_on_case_sees_the_images_of_its_row_and_progress_counts_cases() -> None:
    seen: list[EvaluatedCase] = []
    steps: list[int] = []
    result = evaluate(on_case=seen.append, progress=steps.append)
    assert steps == [3, 3, 1]
    assert {case.row["case_id"] for case in seen} == {row["case_id"] for row in result.cases}
    batches = make_batches()
    for number, case in enumerate(seen):
        batch, index = batches[number // 3], number % 3
        assert case.row["case_id"] == batch["case_id"][index]
        assert case.row["n_mask_pixels"] == case.mask.sum()
        np.testing.assert_array_equal(case.xray, batch["xray"][index, 0])
        np.testing.assert_array_equal(case.drr, case.attention)
        np.testing.assert_allclose(case.probability, batch["xray"][index, 0].sigmoid())
        assert case.content == (0, 2, 32, 28)


def test_keeps_no_images() -> None:
    shown: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def stream() -> Iterator[dict[str, Any]]:
        for _ in range(5):
            batch = {
                name: values.clone() if isinstance(values, Tensor) else values
                for name, values in make_batches(size=7)[0].items()
            }
            shown.extend(weakref.ref(v) for v in batch.values() if isinstance(v, Tensor))
            yield batch
            del batch
            alive.append(sum(tensor() is not None for tensor in shown))

    result = evaluate_batches(Echo(), stream(), threshold=THRESHOLD, on_case=lambda case: None)
    assert len(result.cases) == 35
    assert max(alive) <= 5  # the batch that the loop still holds, and none before it


def test_without_attention_its_numbers_are_null_and_never_zero() -> None:
    result = evaluate(Echo(has_attention=False))
    assert set(result.summary) == set(evaluate().summary)
    assert result.summary["attention_gt_overlap"] is None
    assert result.summary["attention_gt_distance"] is None
    assert result.summary["seg_gt_overlap"] is not None
    assert "attention_max" not in result.cases[0]


def test_a_diverged_model_is_named_with_its_case() -> None:
    batches = make_batches()
    batches[1]["xray"][2, 0, 3, 4] = torch.nan
    with pytest.raises(CheckpointError, match=batches[1]["case_id"][2]):
        evaluate_batches(Echo(), batches, threshold=THRESHOLD)


def test_nothing_to_evaluate() -> None:
    with pytest.raises(DataError, match="no case"):
        evaluate_batches(Echo(), [], threshold=THRESHOLD)


def test_files(tmp_path: Path) -> None:
    result = evaluate()
    result.summary["nothing"] = None
    with pytest.raises(AssertionError, match="nothing"):  # a metric must have a definition
        write_results(result, tmp_path / "no")
    del result.summary["nothing"]
    write_results(result, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "cases.csv",
        "metrics.json",
        "metrics_definitions.json",
    ]
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written == result.summary
    assert list(written) == sorted(written)
    assert type(written["n_cases"]) is int
    definitions = json.loads((tmp_path / "out" / "metrics_definitions.json").read_text())
    assert set(definitions) == set(written)
    with (tmp_path / "out" / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0])[: len(DESCRIPTION)] == DESCRIPTION
    assert [rows[0][f"content_{name}"] for name in ("top", "left", "height", "width")] == [
        *("0", "2", "32", "28"),  # where the image lies on the padded square
    ]
    for row, case in zip(rows, result.cases, strict=True):
        for name, value in case.items():
            assert row[name] == ("" if value is None else str(value))


def test_what_was_measured_is_written_beside_the_numbers(tmp_path: Path) -> None:
    result = evaluate()
    write_results(result, tmp_path, {"split": "val"})
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written == {**result.summary, "split": "val"}


def test_only_negatives_give_null_not_nan(tmp_path: Path) -> None:
    batch = make_batches(size=7)[0]
    batch["mask"] = torch.zeros_like(batch["mask"])
    result = evaluate_batches(Echo(), [batch], threshold=THRESHOLD)
    assert result.summary["dice_positive"] is None
    assert result.summary["froc_mean"] is None
    write_results(result, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["hd95"] is None
