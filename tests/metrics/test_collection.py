"""`ValidationMetrics` against the references: serial, and on two processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnseg.component import expanded
from attnseg.config.measures import measure_of, own_measures, validation_names
from attnseg.metrics.collection import ValidationMetrics, own_metrics
from attnseg.metrics.mending import MENDED
from tests.conftest import needs_gpu

from . import references, tester

NEUTRAL = {"threshold", "best_threshold", "area_baseline"}
NEUTRAL |= {"attention_min", "attention_max", "attention_std"}


COVERED = {"alignment", "segmentation", "original", "surface", "lesions"}


def compared(values: dict[str, float]) -> dict[str, float]:
    """Without what has its reference in a test of its own: MENDED, and metrics of other files."""
    own = [one for one in own_metrics() if one.name not in COVERED]
    apart = {*MENDED, *(name for one in own for name in expanded(one.measures))}
    return {name: value for name, value in values.items() if name not in apart}


@pytest.mark.parametrize("option", tester.OPTIONS)
@pytest.mark.parametrize("size", [1, 4])
def test_equals_the_references(option: str, size: int) -> None:
    cases = tester.mixture()
    options = tester.OPTIONS[option]
    wanted = references.summary(cases, options.get("threshold"), hd=option == "evaluation")
    tester.assert_same(compared(tester.run(cases, size, **options)), wanted)


@pytest.mark.parametrize("case", tester.adversarial(), ids=lambda case: case.case_id)
def test_equals_the_references_on_each_adversarial_case(case: references.Example) -> None:
    wanted = references.summary([case], 0.4, hd=True)
    tester.assert_same(compared(tester.run([case], threshold=0.4, evaluation=True)), wanted)


def test_two_uneven_processes_equal_one(tmp_path: Path) -> None:
    results = tester.run_on_two(tmp_path)
    assert len(results) == len(tester.splits()) + 1
    for name, by_rank in results.items():
        split, option = name.split("/")
        cases = [case for rank in tester.splits()[split] for case in rank]
        for got in by_rank:
            if cases:
                serial = tester.run(cases, **tester.OPTIONS[option])
                tester.assert_same(got, serial, tolerance=1e-12)
            else:
                assert got["n_cases"] == 0
                assert tester.is_nan(got["dice_positive"])


def test_reset_forgets_everything() -> None:
    metrics = ValidationMetrics(evaluation=True)
    fresh = tester.mixture()[:4]
    metrics.update(**tester.tensors(tester.adversarial()))
    metrics.compute()
    metrics.reset()
    for batch in tester.batched(fresh, 2):
        metrics.update(**batch)
    tester.assert_same(metrics.compute(), tester.run(fresh, evaluation=True), tolerance=1e-12)


def test_without_attention_its_metrics_are_left_out() -> None:
    cases = tester.mixture()[:4]
    with_attention, without = tester.run(cases), tester.run(cases, has_attention=False)
    assert set(with_attention) - set(without) == {
        name for name, measure in own_measures().items() if measure.needs_attention
    }
    tester.assert_same(without, {name: with_attention[name] for name in without})


@pytest.mark.parametrize("has_attention", [True, False])
def test_the_names_that_need_no_torch_are_those_of_a_validation(has_attention: bool) -> None:
    names = validation_names(has_attention=has_attention)
    assert len(names) == len(set(names))
    values = tester.run(tester.mixture()[:3], has_attention=has_attention)
    assert set(names) == set(values)


def test_rows_average_to_the_summary() -> None:
    metrics = ValidationMetrics(0.4, evaluation=True)
    rows = []
    for batch in tester.batched(tester.mixture(), 5):
        metrics.update(**batch)
        rows += metrics.last()
    summary = metrics.compute()
    by_column = {name: references.mean([row[name] for row in rows]) for name in rows[0]}
    names = set(summary) & set(by_column) - {"n_lesions"}
    assert len(names) > 20
    assert {name: by_column[name] for name in names} == pytest.approx(
        {name: summary[name] for name in names}
    )
    assert by_column["dice"] == pytest.approx(summary["dice_positive"])
    assert by_column["iou"] == pytest.approx(summary["iou_positive"])
    assert sum(row["n_lesions"] for row in rows) == summary["n_lesions"]
    negatives = [row for row in rows if not row["n_mask_pixels"]]
    invented = [row["n_false_positive_lesions"] for row in negatives]
    assert references.mean(invented) == summary["false_positive_lesions_per_negative"]
    pixels = [row["n_false_positive_pixels"] for row in negatives]
    assert references.mean(pixels) == summary["false_positive_pixels_per_negative"]


def test_states_follow_the_module_and_stay_out_of_checkpoints() -> None:
    module = torch.nn.ModuleDict({"metrics": ValidationMetrics(evaluation=True)})
    assert not module.state_dict()
    module.to("meta")
    for metric in module["metrics"].values():
        states = [getattr(metric, name) for name in metric._defaults]
        assert all(state.device.type == "meta" for state in states if not isinstance(state, list))


def test_half_precision_of_the_module_leaves_the_sums_alone() -> None:
    metrics = ValidationMetrics(evaluation=True).half()
    metrics.update(**tester.tensors(tester.mixture()[:3]))
    tester.assert_same(metrics.compute(), tester.run(tester.mixture()[:3], evaluation=True))


def test_a_device_without_float64_gets_float32_states() -> None:
    def refuse_double(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return tensor

    metrics = ValidationMetrics(evaluation=True)._apply(refuse_double)
    assert metrics["alignment"].sums.dtype == torch.float32
    metrics.update(**tester.tensors(tester.mixture()[:3]))
    wanted = tester.run(tester.mixture()[:3], evaluation=True)
    tester.assert_same(metrics.compute(), wanted, tolerance=1e-5)


def test_gradients_are_not_kept() -> None:
    batch = tester.tensors(tester.mixture()[:3])
    batch["probability"].requires_grad_()
    batch["attention"].requires_grad_()
    metrics = ValidationMetrics(evaluation=True)
    metrics.update(**batch)
    assert not metrics["alignment"].sums.requires_grad


def test_every_metric_says_what_it_means_and_which_end_is_good() -> None:
    lines = {}
    for name in tester.run(tester.mixture()[:3], evaluation=True):
        measure = measure_of(name)
        assert measure is not None and measure.definition, name
        neutral = name in NEUTRAL or (name[:2] == "n_" and name != "n_empty_predictions")
        assert (measure.higher_is_better is None) == neutral, name
        lines[name] = measure.line
    assert set(lines) == set(own_measures())
    assert "8 false positives" in lines["froc_sensitivity_at_8"]
    assert lines["hd95_mm"].startswith("mm: ") and "512" not in lines["hd95_mm"]
    assert "10 to 20 mm" in lines["lesion_sensitivity_10_to_20mm"]


@needs_gpu
def test_on_a_gpu_with_deterministic_algorithms() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        metrics = ValidationMetrics(0.4, evaluation=True).to("cuda")
        for batch in tester.batched(tester.mixture(), 3):
            ids = batch.pop("case_ids")
            metrics.update(**{k: v.to("cuda") for k, v in batch.items()}, case_ids=ids)
        wanted = tester.run(tester.mixture(), threshold=0.4, evaluation=True)
        tester.assert_same(metrics.compute(), wanted)
    finally:
        torch.use_deterministic_algorithms(False)
