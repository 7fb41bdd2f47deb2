"""`attnseg evaluate` and `attnseg analyze`: which data, what is written, what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnseg.build import build_model
from attnseg.cli import main
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.evaluation.job import merge_data
from attnseg.evaluation.pictures import chosen_cases
from attnseg.runs.checkpoints import export_safetensors, load_checkpoints
from attnseg.runs.folder import RunFolder
from attnseg.runs.patients import TrainedPatients

TRAINED_ON = {"name": "phantom", "size": 64, "n_cases": 6, "split": {"seed": 0, "kind": "random"}}
KEYS = (
    "n_cases",
    "n_positive",
    "dice_positive",
    "dice_global",
    "dice_original",
    "attention_gt_overlap",
    "seg_gt_overlap",
    "attention_seg_overlap",
    "attention_gt_corr",
    "seg_gt_corr",
    "attention_seg_corr",
    "attention_gt_distance",
    "attention_min",
    "attention_max",
    "attention_std",
    "pointing_game",
    "pointing_game_distance",
    "energy_inside",
    "soft_iou",
    "nss",
    "froc_sensitivity_at_0.125",
    "froc_sensitivity_at_8",
    "false_positive_lesions_per_negative",
)


def test_without_data_the_checkpoints_own_is_measured() -> None:
    assert merge_data(TRAINED_ON, None, ["checkpoint=x"]) == TRAINED_ON


def test_single_keys_change_the_checkpoints_data() -> None:
    given = {"n_cases": 9, "split": {"seed": 4}}
    words = ["data.n_cases=9", "data.split.seed=4"]
    merged = merge_data(TRAINED_ON, given, words)
    assert merged == TRAINED_ON | {"n_cases": 9, "split": {"seed": 4, "kind": "random"}}


def test_another_source_is_measured_at_the_trained_size() -> None:
    given = {"name": "lidc_drr", "size": 512, "root": "x"}
    assert merge_data(TRAINED_ON, given, ["data=lidc_drr", "data.root=x"])["size"] == 64
    words = ["data=lidc_drr", "data.size=512"]
    assert merge_data(TRAINED_ON, given, words)["size"] == 512


def test_the_same_source_keeps_what_is_not_said() -> None:
    given = {**TRAINED_ON, "size": 256, "n_cases": 120}
    words = ["data=phantom", "data.n_cases=120"]
    assert merge_data(TRAINED_ON, given, words) == TRAINED_ON | {"n_cases": 120}


@pytest.mark.parametrize("split", ["val", "all"])
def test_evaluate_writes_every_promised_key(
    split: str, finished: RunFolder, tmp_path: Path
) -> None:
    words = [f"checkpoint={finished.path}", f"split={split}", f"output_dir={tmp_path}"]
    assert main(["evaluate", *words, "accelerator=cpu"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(KEYS) <= metrics.keys()
    assert metrics["split"] == split
    n_cases = {"val": 2, "all": 6}[split]
    assert metrics["n_cases"] == n_cases
    assert metrics["n_cases_seen_in_training"] == {"val": 0, "all": 4}[split]
    with (tmp_path / "cases.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == n_cases
    with (tmp_path / "gt_lesions.csv").open() as stream:
        found = [int(row["found"]) for row in csv.DictReader(stream)]
    assert len(found) == metrics["n_lesions"]
    assert sum(found) == pytest.approx(metrics["lesion_sensitivity"] * len(found))
    assert (tmp_path / "candidates.csv").is_file()
    assert (tmp_path / "froc.png").is_file()
    pictures = {path.name for path in (tmp_path / "overlays").iterdir()}
    assert pictures == {"best.png", "median.png", "worst.png"}


def test_safetensors_give_the_same_figures(finished: RunFolder, tmp_path: Path) -> None:
    exported = tmp_path / "model.safetensors"
    export_safetensors([load_checkpoints(str(finished.best))[0]], exported)
    for name, spec in (("ckpt", finished.best), ("safe", exported)):
        words = [f"checkpoint={spec}", f"output_dir={tmp_path / name}", "n_pictures=0"]
        assert main(["evaluate", *words]) == 0
    first, second = ((tmp_path / n / "cases.csv").read_bytes() for n in ("ckpt", "safe"))
    assert first == second


def test_an_ensemble_is_measured_on_its_first_members_grid(
    finished: RunFolder, tmp_path: Path
) -> None:
    [one] = load_checkpoints(str(finished.best))
    finer = one.config.data.model_copy(update={"size": one.config.data.size + 32})
    other = replace(one, config=one.config.model_copy(update={"data": finer}))
    for name, members in (("first", [one, other]), ("second", [other, one])):
        export_safetensors(members, tmp_path / f"{name}.safetensors")
        words = [f"checkpoint={tmp_path / name}.safetensors", f"output_dir={tmp_path / name}"]
        assert main(["evaluate", *words, "n_pictures=0"]) == 0
        with (tmp_path / name / "cases.csv").open() as stream:
            heights = {int(row["height"]) for row in csv.DictReader(stream)}
        assert heights == {members[0].config.data.size}


def test_analyze_says_it_in_words_and_draws(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"checkpoint={finished.path}", "split=all", f"output_dir={tmp_path}"]
    assert main(["analyze", *words]) == 0
    findings = json.loads((tmp_path / "findings.json").read_text())
    assert findings, "an untrained model has nothing wrong?"
    assert "analysis.html" in capsys.readouterr().out
    page = (tmp_path / "analysis.html").read_text()
    assert 'alt="froc"' in page
    [group] = json.loads((tmp_path / "metrics.json").read_text())["trained_patients"]
    assert group["hashes"] not in page


@pytest.mark.parametrize(
    ("words", "n_cases"),
    [
        (["split=val"], 4),
        (["split=val", "train_cases=3"], 3),
        (["split=val", "train_cases=0"], None),
        (["split=all"], None),  # holds them already
    ],
)
def test_analyze_measures_training_cases_beside_a_held_out_split(
    words: list[str], n_cases: int | None, finished: RunFolder, tmp_path: Path
) -> None:
    given = [f"checkpoint={finished.path}", f"output_dir={tmp_path}", "n_pictures=0", *words]
    assert main(["analyze", *given]) == 0
    written = tmp_path / "training" / "metrics.json"
    assert written.is_file() == (n_cases is not None)
    if n_cases is not None:
        assert json.loads(written.read_text())["n_cases"] == n_cases
        with (written.parent / "cases.csv").open() as stream:
            patients = {row["patient_id"] for row in csv.DictReader(stream)}
        [one] = load_checkpoints(str(finished.best))
        assert all(patient in one.trained for patient in patients)


def test_analyze_measures_cases_that_trained_every_member_of_an_ensemble(
    finished: RunFolder, tmp_path: Path
) -> None:
    [one] = load_checkpoints(str(finished.best))
    fewer = AttnSegDataModule(one.config).train_patients[1:]
    other = replace(one, trained=TrainedPatients.of(fewer))
    export_safetensors([one, other], tmp_path / "two.safetensors")
    words = [f"checkpoint={tmp_path / 'two.safetensors'}", f"output_dir={tmp_path}"]
    assert main(["analyze", *words, "split=val", "n_pictures=0"]) == 0
    with (tmp_path / "training" / "cases.csv").open() as stream:
        assert {row["patient_id"] for row in csv.DictReader(stream)} == set(fewer)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["checkpoint=/does/not/exist"], "no such file or folder"),
        ([], "checkpoint is not set"),
        (["checkpoint={run}", "split=test"], "holds no case"),
        (["checkpoint={run}", "split=tset"], "split"),
        (["checkpoint={run}", "data.rooot=x"], "data.rooot: no such key"),
        (["checkpoint={run}", "threshold=2"], "threshold"),
        (["checkpoint={run}", "data=lidc_drr"], "data.root"),
    ],
)
def test_a_users_mistake_is_one_message(
    words: list[str], reason: str, finished: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *(word.format(run=finished.path) for word in words)]) == 2
    captured = capsys.readouterr()
    assert reason in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("word", ["output_dir=FILE", "accelerator=warp", "accelerator=mps"])
def test_what_cannot_work_is_told_before_the_pass(
    word: str, finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    words = [f"output_dir={tmp_path / 'out'}", word.replace("FILE", str(tmp_path / "file"))]
    assert main(["evaluate", f"checkpoint={finished.path}", *words]) == 2
    captured = capsys.readouterr()
    assert word.split("=")[0] in captured.err
    assert "val split" not in captured.out
    assert not (tmp_path / "out").exists()


def test_another_size_is_measured_at_but_the_model_sees_its_own(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        model = build_model(*arguments, **options)
        model.register_forward_pre_hook(lambda _, images: seen.append(images[0].shape[-1]))
        return model

    monkeypatch.setattr("attnseg.build.build_model", watched)
    words = [f"checkpoint={finished.path}", f"output_dir={tmp_path}", "data.size=128"]
    assert main(["evaluate", *words, "n_pictures=0"]) == 0
    assert set(seen) == {64}
    with (tmp_path / "cases.csv").open() as stream:
        assert {row["height"] for row in csv.DictReader(stream)} == {"128"}


def test_the_pictures_are_of_both_ends_and_of_the_middle() -> None:
    dice = {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.0, "e": 0.4, "f": 0.8, "g": 0.2}
    rows = [{"case_id": k, "n_mask_pixels": 9, "dice": v} for k, v in dice.items()]
    rows.append({"case_id": "negative", "n_mask_pixels": 0, "dice": None})
    chosen = chosen_cases(rows, 6)
    assert chosen == {"best": ["b", "f"], "median": ["c", "e"], "worst": ["a", "d"]}
    assert chosen_cases(rows, 1) == {"best": ["b"], "median": ["e"], "worst": ["d"]}
    assert chosen_cases(rows, 99)["median"] == list("bfcegad")
    assert not any(chosen_cases(rows, 0).values())
    assert not any(chosen_cases(rows[-1:], 6).values())
