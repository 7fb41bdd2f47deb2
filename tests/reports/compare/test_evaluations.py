"""Which results of `attnseg evaluate` still hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from attnseg.reports.compare.evaluations import evaluation_folder, read_evaluation
from attnseg.reports.compare.maps import read_maps, write_maps
from attnseg.runs.records import read_record
from tests.reports.fakes import overlay_case

from .fakes import age, fake_run, write_cases


def why(run: Path, split: str = "test") -> str:
    evaluation, reason = read_evaluation(read_record(run), split)
    assert (evaluation is None) == bool(reason)
    return reason


def test_what_is_there_and_newer_than_best_holds(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "a")
    evaluation, _ = read_evaluation(read_record(run), "test")
    assert evaluation is not None
    assert len(evaluation.cases) == 24
    assert evaluation.summary["n_positive"] == 20
    assert "not measured on the val split" in why(run, "val")


def test_what_is_older_than_best_does_not_hold(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "a")
    age(run / "evaluate", 60)
    assert "before best.ckpt" in why(run)
    (run / "checkpoints" / "best.ckpt").unlink()  # pruned: nothing newer can be there
    assert why(run) == ""


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"run_id": "deadbeef"}, "another run's checkpoint"),
        ({"checkpoint": "/x/checkpoints/last.ckpt"}, "another checkpoint than best.ckpt"),
    ],
)
def test_what_is_of_another_checkpoint_does_not_hold(
    tmp_path: Path, more: dict[str, str], reason: str
) -> None:
    run = fake_run(tmp_path / "a", evaluated=None)
    write_cases(run, **more)
    assert reason in why(run)


@pytest.mark.parametrize(
    "text", ["", "case_id,dice\na,0.5,x\n", "nothing\n1\n", "case_id,dice\na\n"]
)
def test_a_broken_table_does_not_hold(tmp_path: Path, text: str) -> None:
    run = fake_run(tmp_path / "a")
    (run / "evaluate" / "phantom-test" / "cases.csv").write_text(text)
    assert "phantom-test/cases.csv" in why(run)


def test_a_users_own_measurement_is_neither_used_nor_in_the_way(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "a", evaluated=None)
    write_cases(run, as_trained=False)
    assert "not measured" in why(run)
    assert evaluation_folder(read_record(run), "test").name == "phantom-test-compare"
    summary = run / "evaluate" / "phantom-test" / "metrics.json"
    summary.write_text(json.dumps(json.loads(summary.read_text()) | {"as_trained": True}))
    assert why(run) == ""


def test_maps_come_back_as_they_were(tmp_path: Path) -> None:
    cases = [overlay_case(seed, lesion=seed != 1) for seed in (0, 1)]
    path = tmp_path / "maps.npz"
    write_maps(cases, path)
    back = read_maps(path)
    assert list(back) == ["case-000", "case-001"]
    for before, after in zip(cases, back.values(), strict=True):
        assert after.content == before.content
        assert (after.mask == before.mask).all()
        np.testing.assert_allclose(after.attention, before.attention, atol=1e-3)
        assert (after.prediction != before.prediction).mean() < 0.002
        assert after.metrics == pytest.approx(dict(before.metrics))
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"x" * 100])
def test_maps_that_cannot_be_read_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "maps.npz").write_bytes(content)
    assert read_maps(tmp_path / "maps.npz") == {}
    assert read_maps(tmp_path / "absent.npz") == {}
