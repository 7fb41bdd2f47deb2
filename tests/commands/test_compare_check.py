"""Figures hold as long as the weights and the measured cases are what they were."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnseg.cli import main
from attnseg.commands.compare_check import Present, Standing
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.evaluation.job import measure, prepare
from attnseg.imaging.images import read_image, write_image
from attnseg.reports.compare.evaluations import read_evaluation
from attnseg.reports.compare.maps import read_maps
from attnseg.runs.checkpoints import load_checkpoints
from attnseg.runs.records import read_record
from attnseg.training.fit import fit
from tests.conftest import TINY

Capture = pytest.CaptureFixture[str]
WORDS = ("n_resamples=100", "n_cases=1", "accelerator=cpu")


def write_set(root: Path) -> Path:
    """Six patients in a table; the last two validate."""
    rng = np.random.default_rng(0)
    lines = ["case,patient,xray,drr,mask,spacing,split"]
    for number in range(6):
        mask = np.zeros((64, 64), np.uint8)
        mask[10:22, 8 + number : 20 + number] = 1
        names = [f"{role}/{number}.png" for role in ("xray", "drr", "mask")]
        for name in names:
            noise = rng.integers(0, 80, mask.shape).astype(np.uint8)
            write_image(root / name, mask if "mask" in name else noise + 100 * mask)
        split = "val" if number > 3 else "train"
        lines.append(f"c{number},p{number},{','.join(names)},0.5,{split}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Path:
    """A folder with a data set, and a run on it that is measured on its validation split."""
    place = tmp_path_factory.mktemp("measured")
    data = f"data.root={write_set(place / 'data') / 'manifest.csv'}"
    tiny = [word for word in TINY if not word.startswith(("data.n_cases", "data.split"))]
    words = [*tiny, "data=manifest", data, "data.split.kind=fixed", f"run.dir={place / 'run'}"]
    assert fit(compose_checked("train", words, TrainConfig)) == 0
    assert main(["compare", str(place / "run"), *WORDS]) == 0
    return place


@pytest.fixture
def place(measured: Path) -> Iterator[Path]:
    """The same, and as it was when the test has ended."""
    copy = measured.with_name("copy")
    shutil.copytree(measured, copy)
    yield measured
    shutil.rmtree(measured)
    copy.rename(measured)


def summary(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder(place) / "metrics.json").read_text())
    return found


def folder(place: Path) -> Path:
    return place / "run" / "evaluate" / "manifest-val"


def standing(place: Path) -> Standing:
    run = read_record(place / "run")
    evaluation, why = read_evaluation(run, "val")
    assert evaluation is not None, why
    return Present().standing(evaluation, run.folder.best, run.config, "val")


def shift(mask: Path) -> None:
    """Move a mask by 20 px: the same name, the same number of pixels."""
    write_image(mask, np.roll(read_image(mask).pixels.astype(np.uint8), 20, axis=0))


def compare(place: Path, capsys: Capture, *words: str) -> tuple[str, dict[str, str]]:
    """What is printed, in one line, and the run's row."""
    capsys.readouterr()
    assert main(["compare", str(place / "run"), *WORDS, *words]) == 0
    with (place / "compare" / "compare.csv").open() as stream:
        [row] = csv.DictReader(stream)
    return " ".join(capsys.readouterr().out.split()), row


def test_an_evaluation_records_weights_data_and_files_without_their_names(measured: Path) -> None:
    found = summary(measured)
    assert [len(digest) for digest in found["weights"]] == [32]
    assert len(found["data"]["digest"]) == 32
    text = (folder(measured) / "content.json").read_text()
    assert json.loads(text)["digest"] == found["data"]["digest"]
    assert "mask/" not in text
    assert standing(measured) == Standing("holds")


def test_shifted_masks_are_measured_again_and_named(place: Path, capsys: Capture) -> None:
    old = summary(place)
    shift(place / "data" / "mask" / "4.png")
    told, row = compare(place, capsys, "evaluate=never")
    assert "left out of means and differences: its results on the val split do not hold" in told
    assert "(1): mask/4.png" in row["left_out"]
    assert summary(place) == old
    told, row = compare(place, capsys)
    assert "measured again on the val split: its data have changed since" in told
    assert "(1): mask/4.png" in told
    assert row["left_out"] == ""
    new = summary(place)
    assert new["dice_original"] != old["dice_original"] or new["nss"] != old["nss"]
    fresh = place / "fresh"
    words = (f"output_dir={fresh}", "n_pictures=0", "accelerator=cpu")
    assert main(["evaluate", f"checkpoint={place / 'run'}", *words]) == 0
    assert json.loads((fresh / "metrics.json").read_text()) == new
    assert read_maps(folder(place) / "maps.npz", {"digest": new["data"]["digest"]})
    told, _ = compare(place, capsys)
    assert "measured again" not in told


def test_an_older_evaluation_is_measured_again_where_its_data_are(
    place: Path, capsys: Capture
) -> None:
    old = summary(place)
    known = {k: v for k, v in old.items() if k != "weights"}
    known["data"] = {k: v for k, v in old["data"].items() if k != "digest"}
    (folder(place) / "content.json").unlink()
    (folder(place) / "metrics.json").write_text(json.dumps(known))
    told, row = compare(place, capsys, "evaluate=never")
    assert "may not hold: the content of its data was not recorded" in told
    assert row["left_out"] == ""
    told, _ = compare(place, capsys)
    assert "measured again on the val split: the content of its data was not recorded" in told
    assert summary(place) == old


def test_data_that_are_away_leave_the_figures_and_a_word(place: Path, capsys: Capture) -> None:
    (place / "data").rename(place / "moved")
    before = summary(place)
    told, row = compare(place, capsys)
    assert "may not hold: its data cannot be looked at" in told
    assert "data.root" in told
    assert (row["left_out"], summary(place)) == ("", before)
    # Where the evaluation found them the data can be looked at, though the run's root is gone.
    record = {**before["data"], "manifest": str(place / "moved" / "manifest.csv")}
    (folder(place) / "metrics.json").write_text(json.dumps({**before, "data": record}))
    assert standing(place).kind == "holds"
    shift(place / "moved" / "mask" / "5.png")
    assert standing(place).kind == "other data"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("nothing but times", "holds"),
        ("a training mask", "holds"),
        ("a row that validates", "other data"),
        ("a case more", "other data"),
        ("a file gone", "unchecked"),
    ],
)
def test_what_counts_is_the_content_of_the_measured_cases(
    change: str, kind: str, place: Path
) -> None:
    table = place / "data" / "manifest.csv"
    if change == "nothing but times":
        for path in place.rglob("*"):
            os.utime(path, (1e9, 1e9))
    elif change == "a training mask":
        shift(place / "data" / "mask" / "0.png")
    elif change == "a row that validates":
        table.write_text(table.read_text().replace("mask/4.png,0.5", "mask/4.png,0.7"))
    elif change == "a case more":
        table.write_text(table.read_text().replace("0.5,train", "0.5,val", 1))
    else:
        (place / "data" / "drr" / "5.png").unlink()
    assert standing(place).kind == kind


def test_a_word_on_held_out_patients_that_trained_it(place: Path, capsys: Capture) -> None:
    known = summary(place) | {"n_cases_seen_in_training": 1}
    (folder(place) / "metrics.json").write_text(json.dumps(known))
    told, _ = compare(place, capsys)
    assert "1 of 2 cases are of patients that trained it or what it began from" in told
    shutil.rmtree(folder(place))
    status = json.loads((place / "run" / "status.json").read_text())
    status["validated_on_trained"] = {"cases": 2, "of": 2, "patients": 2}
    (place / "run" / "status.json").write_text(json.dumps(status))
    told, _ = compare(place, capsys, "evaluate=never")
    assert "2 of 2 cases are of patients that trained it or what it began from" in told


def test_a_set_elsewhere_is_the_runs_own_if_its_content_is(place: Path) -> None:
    """Only then is what `evaluate` measures there the run's own figure, which compare reads."""
    config = load_checkpoints(str(place / "run"))[0].config
    trained_on = AttnSegDataModule(config).content
    elsewhere = place / "elsewhere"
    shutil.copytree(place / "data", elsewhere)
    words = [f"checkpoint={place / 'run'}", "accelerator=cpu", "n_pictures=0"]
    words.append(f"data.root={elsewhere / 'manifest.csv'}")
    for n_changed in (0, 1):
        job = prepare("evaluate", words)
        record = {**job.checkpoint.data_record, "digest": trained_on.digest}
        members = tuple(replace(member, data_record=record) for member in job.members)
        measure(replace(job, members=members))
        assert summary(place)["as_trained"] is (n_changed == 0)
        assert n_changed or standing(place).kind == "holds"
        shift(elsewhere / "mask" / "0.png")
