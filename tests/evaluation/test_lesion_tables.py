"""gt_lesions.csv and candidates.csv: they hold what the lesion metrics were counted from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnseg.evaluation.engine import EvaluationResult, evaluate_batches
from attnseg.evaluation.lesion_tables import LesionTables
from attnseg.metrics.froc import MAX_FALSE_POSITIVES, RATES, froc_sensitivity
from tests.evaluation.test_engine import THRESHOLD, Echo, make_batches

HIGH, LOW = pytest.approx(0.75), pytest.approx(0.25)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def tables_of(
    tmp_path: Path, batches: list[dict[str, Any]]
) -> tuple[EvaluationResult, list[dict[str, str]], list[dict[str, str]]]:
    tables = LesionTables()
    result = evaluate_batches(Echo(), batches, threshold=THRESHOLD, on_case=tables.add)
    tables.write(tmp_path)
    return result, read(tmp_path / "gt_lesions.csv"), read(tmp_path / "candidates.csv")


def test_they_hold_the_curve_and_the_counts(tmp_path: Path) -> None:
    result, lesions, candidates = tables_of(tmp_path, make_batches())
    summary, cases = result.summary, result.cases
    score = np.array([row["score"] or -1 for row in lesions], dtype=np.float32)
    wrong = [row["score"] for row in candidates if not row["lesions"]]
    assert wrong
    curve = froc_sensitivity(score, np.array(wrong, dtype=np.float32), n_images=7)
    assert curve == [summary[name] for name in summary if "froc_sens" in name]
    assert len(curve) == len(RATES)
    found = np.mean([int(row["found"]) for row in lesions])
    assert found == pytest.approx(summary["lesion_sensitivity"])
    for case in cases:
        rows = [row for row in candidates if row["case_id"] == case["case_id"]]
        invented = [row for row in rows if int(row["segmented"]) and not row["lesions"]]
        assert len(invented) == min(case["n_false_positive_lesions"], MAX_FALSE_POSITIVES)
        hit = {one for row in rows if int(row["segmented"]) for one in row["lesions"].split()}
        assert len(hit) == case["n_lesions_found"]
    for rows in (lesions, candidates):
        assert [row["case_id"] for row in rows] == sorted(row["case_id"] for row in rows)


def test_a_row_says_where_how_large_and_how_sure(tmp_path: Path) -> None:
    batch = make_batches(size=7)[0]
    batch["xray"] = torch.full_like(batch["xray"], 0.002).logit()
    batch["xray"][1, 0, 3, 12] = torch.tensor(0.75).logit()  # inside the lesion of case 1
    batch["xray"][1, 0, 30, 5] = torch.tensor(0.25).logit()
    _, lesions, candidates = tables_of(tmp_path, [batch])
    case = batch["case_id"][1]
    [lesion] = [row for row in lesions if row["case_id"] == case]
    assert lesion["patient_id"] == f"p-{case}"
    assert [lesion[name] for name in ("lesion", "row", "column")] == ["1", "3.0", "12.0"]
    assert float(lesion["diameter_px"]) == pytest.approx((4 / np.pi * 25) ** 0.5 * 16, abs=1e-3)
    assert lesion["diameter_mm"] == ""  # its spacing is not known
    assert (lesion["n_pixels"], float(lesion["score"]), lesion["found"]) == ("25", HIGH, "1")
    hit, wrong = candidates
    assert [hit[name] for name in ("candidate", "row", "column")] == ["1", "3", "12"]
    assert (float(hit["score"]), hit["segmented"], hit["lesions"]) == (HIGH, "1", "1")
    assert (wrong["row"], wrong["column"], wrong["n_pixels"]) == ("30", "5", "1")
    assert (float(wrong["score"]), wrong["segmented"], wrong["lesions"]) == (LOW, "0", "")
    unseen = next(row for row in lesions if row["case_id"] != case)
    assert (unseen["score"], unseen["found"]) == ("", "0")
    assert float(unseen["diameter_mm"]) == pytest.approx((4 / np.pi * 25) ** 0.5 * 0.7, abs=1e-3)


def test_a_case_keeps_its_highest_false_positives(tmp_path: Path) -> None:
    batch = make_batches(size=7)[0]
    batch["mask"] = torch.zeros_like(batch["mask"])
    probability = torch.full_like(batch["xray"], 0.002)
    probability[:, :, ::2, ::2] = torch.linspace(0.4, 0.9, 256).view(16, 16)
    batch["xray"] = probability.logit()
    _, lesions, candidates = tables_of(tmp_path, [batch])
    assert not lesions
    first = [float(row["score"]) for row in candidates if row["case_id"] == "c0"]
    assert len(first) == MAX_FALSE_POSITIVES
    assert first == sorted(first, reverse=True)
    assert first[0] == pytest.approx(0.9)
