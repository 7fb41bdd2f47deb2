"""What a run knows of the patients that trained it and the runs that it began from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from attnseg.cli import main
from attnseg.common.errors import CheckpointError
from attnseg.config import TrainConfig
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.runs.archive import KEY
from attnseg.runs.checkpoints import (
    export_safetensors,
    load_checkpoints,
    read_checkpoint,
    read_records,
    without_paths,
)
from attnseg.runs.folder import RunFolder
from attnseg.runs.patients import KEY as PATIENTS
from attnseg.runs.patients import TrainedPatients
from attnseg.training.fit import fit
from attnseg.training.inheritance import inherited, trained_patients, validated_on_known
from tests.conftest import configure

QUIET = "callbacks.overlays.every_n_epochs=0"


def patients(config: TrainConfig, split: Any = "all") -> set[str]:
    return {case.patient_id for case in AttnSegDataModule(config).cases(split)}


def those_in(known: TrainedPatients, config: TrainConfig) -> set[str]:
    return {patient for patient in patients(config) if patient in known}


def known(folder: RunFolder) -> set[str]:
    """The patients that the folder's checkpoint says trained it; status.json says the same."""
    [loaded] = load_checkpoints(str(folder.last))
    found = those_in(loaded.trained, loaded.config)
    assert those_in(TrainedPatients.from_record(folder.read_status()), loaded.config) == found
    return found


def other_split(parent: RunFolder) -> str:
    """A split whose validation patients all trained the parent."""
    trained = patients(configure(parent.path), "train")
    words = (f"data.split.seed={seed}" for seed in range(1, 20))
    return next(w for w in words if patients(configure(parent.path, w), "val") <= trained)


def old(checkpoint: Path, place: Path) -> Path:
    """A checkpoint as it was written before patients were hashed."""
    content = read_checkpoint(checkpoint)
    del content[KEY][PATIENTS]
    ids = sorted(patients(load_checkpoints(str(checkpoint))[0].config, "train"))
    content[KEY]["data"] = {**content[KEY]["data"], "train_patients": ids}
    torch.save(content, place)
    return place


def mentions(path: Path, ids: set[str]) -> list[str]:
    content = path.read_bytes() if path.is_file() else b""
    return [patient for patient in ids if patient.encode() in content]


def test_a_run_folder_names_no_patient_that_trained_it(finished: RunFolder) -> None:
    trained = patients(configure(finished.path), "train")
    assert known(finished) == trained
    for path in finished.path.rglob("*"):
        if "evaluate" not in path.parts and "analyze" not in path.parts:  # of other tests
            assert not mentions(path, trained), path
    [record] = finished.read_status()[PATIENTS]
    assert record.keys() == {"salt", "hashes"}


def test_a_child_of_a_child_and_a_resume_keep_all_patients(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warm start from a checkpoint of before there were hashes, resumed, and a fork of it."""
    source, split = old(finished.last, tmp_path / "old.ckpt"), other_split(finished)
    trained = patients(configure(finished.path), "train")
    child = RunFolder(tmp_path / "child")
    words = (QUIET, split, f"warmstart={source}")
    assert fit(configure(child.path, *words, "trainer.max_epochs=1")) == 0
    told = capsys.readouterr().out
    held_out = patients(configure(child.path, split), "val")
    assert "note: 2 of 2 validation cases are of patients that trained the weights" in told
    assert all(patient in told for patient in held_out)  # a phantom's case is named after it
    status = child.read_status()
    assert status["validated_on_trained"] == {"cases": 2, "of": 2, "patients": 2}
    assert known(child) == trained | patients(configure(child.path, split), "train")
    own, parents = status[PATIENTS]
    assert own["salt"] != parents["salt"]
    assert not mentions(child.last, trained)

    assert fit(configure(child.path, *words)) == 0  # it goes on
    assert "going on with" in capsys.readouterr().out
    assert read_checkpoint(child.last)[KEY][PATIENTS] == [own, parents]
    assert child.read_status()[PATIENTS] == [own, parents]

    grandchild = RunFolder(tmp_path / "grandchild")
    words = (QUIET, "data.n_cases=4", "schedule.total_epochs=3", f"fork={child.path}")
    assert fit(configure(grandchild.path, *words)) == 0
    assert grandchild.read_status()[PATIENTS][1:] == [own, parents]
    assert known(grandchild) == patients(configure(grandchild.path, *words))
    [loaded] = load_checkpoints(str(grandchild.last))
    assert those_in(loaded.trained, configure(child.path)) == patients(configure(child.path))

    words = ("split=val", f"output_dir={tmp_path / 'out'}", "n_pictures=0", "accelerator=cpu")
    assert main(["evaluate", f"checkpoint={grandchild.last}", *words]) == 0
    assert "note: 1 of 1 cases are of patients it was trained on" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["n_cases_seen_in_training"] == 1
    assert TrainedPatients.from_record(metrics) == loaded.trained


def test_a_start_is_told_only_of_patients_that_trained_the_parent(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_safetensors(load_checkpoints(str(finished.last)), tmp_path / "parent.safetensors")
    for split, n in (("seed=1", 0), (other_split(finished), 2)):
        words = (split, f"warmstart={tmp_path / 'parent.safetensors'}")
        config = configure(tmp_path / "child", *words)
        data = AttnSegDataModule(config)
        record = validated_on_known(data, inherited(config, None, None))
        assert (
            ("validated_on_trained" in record)
            == (f"{n} of 2" in capsys.readouterr().out)
            == (n > 0)
        )


def test_ids_are_kept_where_asked_and_not_in_what_is_for_others(
    finished: RunFolder, tmp_path: Path
) -> None:
    config = configure(finished.path, "keep_ids=true")
    data = AttnSegDataModule(config)
    ids = patients(config, "train")
    trained = trained_patients(config, data, TrainedPatients(), resumed=False)
    assert trained.record() == [{"ids": sorted(ids)}]
    [loaded] = load_checkpoints(str(finished.last))
    loaded = replace(loaded, trained=trained)
    for name, member in (("mine", loaded), ("others", without_paths(loaded))):
        file = tmp_path / f"{name}.safetensors"
        export_safetensors([member], file)
        assert bool(mentions(file, ids)) == (name == "mine")
        assert those_in(load_checkpoints(str(file))[0].trained, config) == ids
    later = trained_patients(configure(finished.path), data, trained, resumed=True)
    assert not any("ids" in group for group in later.record())
    assert those_in(later, config) == ids


def test_what_was_trained_on_before_the_split_changed_stays(finished: RunFolder) -> None:
    config = configure(finished.path, other_split(finished))
    before = inherited(config, finished.last, None)
    after = trained_patients(config, AttnSegDataModule(config), before, resumed=True)
    both = patients(configure(finished.path), "train") | patients(config, "train")
    assert those_in(after, config) == both
    assert len(after.record()) == 1


def test_encoder_weights_of_ours_bring_their_patients(finished: RunFolder, tmp_path: Path) -> None:
    """Whatever network they are for: the file says whom it knows."""
    content = read_checkpoint(finished.last)
    torch.save({"state_dict": {}, KEY: content[KEY]}, tmp_path / "encoder.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    export_safetensors(load_checkpoints(str(finished.last)), tmp_path / "whole.safetensors")
    trained = patients(configure(finished.path), "train")
    for name in ("encoder.ckpt", "whole.safetensors", "other.pth", "gone.ckpt"):
        words = ("model=resnet18", f"model.encoder.weights={tmp_path / name}")
        config = configure(tmp_path, *words)
        expected = trained if name in ("encoder.ckpt", "whole.safetensors") else set()
        assert those_in(inherited(config, None, None), config) == expected, name


def test_an_ensemble_knows_the_patients_of_every_member(
    finished: RunFolder, tmp_path: Path
) -> None:
    [one] = load_checkpoints(str(finished.last))
    [held_out, *_] = patients(one.config, "val")
    file = tmp_path / "both.safetensors"
    export_safetensors([one, replace(one, trained=TrainedPatients.of([held_out]))], file)
    assert len(read_records(file)) == 2
    words = ("split=all", f"output_dir={tmp_path / 'out'}", "n_pictures=0", "accelerator=cpu")
    assert main(["evaluate", f"checkpoint={file}", *words]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["n_cases_seen_in_training"] == len(patients(one.config, "train")) + 1


def test_a_broken_record_of_patients_is_told(finished: RunFolder, tmp_path: Path) -> None:
    content = read_checkpoint(finished.last)
    content[KEY][PATIENTS] = [{"salt": "00"}]
    torch.save(content, tmp_path / "broken.ckpt")
    with pytest.raises(CheckpointError, match=r"broken\.ckpt: its record of the patients"):
        load_checkpoints(str(tmp_path / "broken.ckpt"))
