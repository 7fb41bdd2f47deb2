"""The small parts: which end is good, files that are kept, the code's state."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from attnseg.reports.overlays import OverlayCase
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import write_row
from attnseg.training.loggers.definitions import define, summary_of
from attnseg.training.loggers.marks import is_sent, mark_of, write_sent
from attnseg.training.loggers.media import (
    MediaCase,
    append_step,
    load_cases,
    read_steps,
    save_cases,
    write_cases,
)
from attnseg.training.loggers.snapshot import code_folder, read_snapshot, take_snapshot


@pytest.mark.parametrize(
    ("key", "end"),
    [
        ("val/dice_positive", "max"),
        ("val/attention_gt_distance_mm", "min"),
        ("train/loss/attention/focal", "min"),
        ("val/lesion_sensitivity_below_10mm", "max"),
        ("weight/attention", None),
        ("epoch", None),
        ("val/roughness", "min"),  # somebody else's, which said so of itself
        ("val/roughness_mm", "min"),
    ],
)
def test_which_end_is_kept(key: str, end: str | None) -> None:
    said = {"roughness": {"definition": "", "unit": "", "higher_is_better": False}}
    assert summary_of([{key: 1.0}], said).get(key) == (end and {end: 1.0, "last": 1.0})
    kept: dict[str, str] = {}
    run = SimpleNamespace(define_metric=lambda name, **told: kept.update({name: str(told)}))
    define(run, [key], said)
    assert ("summary" in kept.get(key, "")) == (end is not None)


def test_the_summary_is_over_the_whole_ledger() -> None:
    rows = [{"val/dice_positive": 0.4}, {"val/dice_positive": 0.6}, {"val/dice_positive": 0.5}]
    assert summary_of(rows) == {"val/dice_positive": {"max": 0.6, "last": 0.5}}
    assert summary_of([{"val/dice_positive": float("nan"), "lr/head": 1.0}]) == {}


def test_cases_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.random((6, 8))
    mask = (image > 0.7).astype(float)
    box = (1, 2, 4, 5)
    case = MediaCase.of(OverlayCase("a", image, image, mask, image, image, 0.5, {}, box))
    assert case.truth.shape == (4, 5)
    assert (case.prediction == (image[1:5, 2:7] > 0.5)).all()
    save_cases(tmp_path / "cases.npz", [case, case])
    first, second = load_cases(tmp_path / "cases.npz")
    assert first.case_id == second.case_id == "a"
    for name in ("xray", "drr", "attention", "prediction", "truth"):
        assert (getattr(first, name) == getattr(case, name)).all()


def test_steps_are_read_once_each_in_order(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    for step, loss in ((1, 0.5), (3, 0.3), (2, 0.4), (3, 0.2), (4, float("nan"))):
        append_step(path, step, {"step/loss/total": loss})
    with path.open("a") as stream:
        stream.write('{"step": 5, "step/lo')  # killed here
    losses = [(step, values.get("step/loss/total")) for step, values in read_steps(path)]
    assert losses == [(1, 0.5), (2, 0.4), (3, 0.2), (4, None)]


def test_an_undefined_measure_of_a_case_is_blank(tmp_path: Path) -> None:
    write_cases(tmp_path / "cases.csv", [{"dice": float("nan"), "case_id": "a", "zeta": 1}])
    assert (tmp_path / "cases.csv").read_text() == "case_id,dice,zeta\na,,1\n"


def test_a_mark_holds_until_the_run_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert not is_sent(folder)
    folder.update_status(state="interrupted", started="then")
    write_row(folder.ledger, {"epoch": 1, "phase": "a", "step": 2})
    write_sent(folder, mark_of(folder, "id", "url", "interrupted"))
    assert is_sent(folder)
    for changes in ({"state": "finished"}, {"state": "interrupted", "started": "later"}):
        folder.update_status(**changes)
        assert not is_sent(folder)
    folder.update_status(state="interrupted", started="then")
    write_row(folder.ledger, {"epoch": 2, "phase": "a", "step": 4})
    assert not is_sent(folder)


def test_the_code_is_kept_with_gits_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    me = ("-c", "user.name=me", "-c", "user.email=me@here")
    (tree / "file").write_text("before\n")
    for words in (
        ("init", "-q"),
        ("remote", "add", "origin", "https://me:secret@example.org/tree.git"),
        ("add", "file"),
        (*me, "commit", "-qm", "first"),
    ):
        subprocess.run(["git", *words], cwd=tree, check=True)
    (tree / "file").write_text("after\n")
    monkeypatch.chdir(tree)
    folder = RunFolder(tmp_path / "run")
    state = take_snapshot(folder)
    assert state == read_snapshot(folder)
    assert state is not None
    assert (len(state.commit), state.remote, state.dirty) == (
        40,
        "https://example.org/tree.git",
        True,
    )
    assert "+after" in (code_folder(folder) / "diff.patch").read_text()
    assert (code_folder(folder) / "attnseg" / "training" / "module.py").is_file()
    assert (code_folder(folder) / "conf" / "train.yaml").is_file()
