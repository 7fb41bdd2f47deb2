"""Counting what is found of nodules put into held-out images."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attnseg.data.datamodule import AttnSegDataModule
from attnseg.inference.predictor import predictor_of
from attnseg.runs.checkpoints import load_checkpoints
from attnseg.runs.folder import RunFolder
from attnseg.runs.patients import TrainedPatients
from experiments.lidc_drr import inserted
from experiments.lidc_drr.inserted import Findings, false_scores, lesion_scores


def test_a_lesions_score_is_its_highest_pixel_and_small_ones_may_be_left_out() -> None:
    mask = np.zeros((40, 40), bool)
    mask[2:4, 2:4] = mask[20:30, 20:30] = True
    probability = np.zeros((40, 40))
    probability[3, 3], probability[25, 22], probability[35, 5] = 0.4, 0.7, 0.9
    assert lesion_scores(probability, mask, 0.0) == [0.4, 0.7]
    assert lesion_scores(probability, mask, 5.0) == [0.7]


def test_maxima_near_a_lesion_are_no_false_positives() -> None:
    lesions = np.zeros((100, 100), bool)
    lesions[50:54, 50:54] = True
    probability = np.zeros((100, 100))
    probability[58, 52], probability[80, 20], probability[10, 90] = 0.9, 0.5, 0.3
    assert sorted(false_scores(probability, lesions)) == [0.3, 0.5]
    assert sorted(false_scores(probability, np.zeros_like(lesions))) == [0.3, 0.5, 0.9]


def test_the_threshold_lets_so_many_false_positives_through() -> None:
    found = Findings(2, [0.9, 0.8, 0.5, 0.4, 0.2], [0.95, 0.6, 0.45, 0.1], ["p"] * 4, [0.55])
    assert found.hits(1)[0].tolist() == [1.0, 1.0, 0.0, 0.0]  # above 0.5: two on two images
    assert found.hits(1)[1] == 1.0
    assert found.hits(2)[0].tolist() == [1.0, 1.0, 1.0, 0.0]
    assert found.hits(8)[0].tolist() == [1.0] * 4  # there are not that many


@pytest.mark.parametrize("kind", [[], ["--solid-blur", "1.2"]])
def test_networks_are_set_side_by_side_on_images_that_did_not_train_them(
    kind: list[str],
    finished: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["inserted.py", "--draws", "2", *kind, str(finished.path), str(finished.best)]
    monkeypatch.setattr("sys.argv", words)
    inserted.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 2
    assert int(rows[0][1]) > 5
    assert rows[0][1:7] == rows[1][1:7]
    assert rows[1][7] == "+0.0000 [+0.0000, +0.0000]"


@pytest.mark.parametrize(
    ("split", "trained", "reason"),
    [
        ("val", ["c", "d"], None),
        ("val", ["b", "c"], "net: 1 of the 2 patients trained it"),
        ("train", ["a", "b", "c"], None),
        ("train", ["c"], "net: 2 of the 2 patients did not train it"),
    ],
)
def test_networks_that_know_the_images_or_do_not_are_refused(
    split: str, trained: list[str], reason: str | None
) -> None:
    data: Any = SimpleNamespace(cases=lambda _: [SimpleNamespace(patient_id=p) for p in "ab"])
    member: Any = SimpleNamespace(trained=TrainedPatients.of(trained))
    with pytest.raises(SystemExit, match=reason) if reason else nullcontext():
        inserted.refuse_other_patients([member], "net", data, split)


def test_a_network_that_was_trained_on_them_is_refused(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    [member] = load_checkpoints(str(finished.path))
    held_out = AttnSegDataModule(member.config).cases("val")
    guilty = replace(member, trained=TrainedPatients.of(case.patient_id for case in held_out))
    monkeypatch.setattr(inserted, "load_checkpoints", lambda _: [guilty])
    monkeypatch.setattr("sys.argv", ["inserted.py", str(finished.path)])
    with pytest.raises(SystemExit, match="patients trained it"):
        inserted.main()


def test_the_images_that_trained_a_network_and_an_ensemble(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked_at: list[int] = []
    row = inserted._row
    monkeypatch.setattr(
        inserted,
        "_row",
        lambda name, found, first: looked_at.append(found.n_images) or row(name, found, first),
    )
    members: list[int] = []
    monkeypatch.setattr(
        inserted,
        "predictor_of",
        lambda given: members.append(len(given)) or predictor_of(given),
    )
    words = ["--draws", "1", "--split", "train", "--every", "2", f"{finished.best},{finished.last}"]
    monkeypatch.setattr("sys.argv", ["inserted.py", *words])
    inserted.main()
    assert "best.ckpt" in capsys.readouterr().out
    assert looked_at == [2]  # of the four that trained it
    assert members == [2]
