"""A run's identity: what defines it changes the id, where it computes does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.common.errors import ConfigError
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.runs.folder import RunFolder, folder_of, refuse_foreign
from attnseg.runs.identity import (
    _what_is_said,
    defining_keys,
    differences,
    identity_record,
    recorded_ids,
    run_identity,
    run_ids,
    same_run,
)
from attnseg.training.identified import identified


def identity(*overrides: str) -> str:
    return run_identity(compose_checked("train", overrides, TrainConfig))


@pytest.mark.parametrize(
    "override",
    [
        "seed=2",
        "optim.lr=2e-3",
        "attention=drr",
        "schedule.phases.joint.epochs=99",
        "data.n_cases=50",
        "data.augment.on_device=true",
        "model.deep_supervision=1",
        "trainer.precision=bf16-mixed",
        "callbacks.ema.enabled=true",
        "callbacks.early_stopping.patience=3",
    ],
)
def test_what_defines_a_run_changes_its_id(override: str) -> None:
    assert identity(override) != identity()


@pytest.mark.parametrize(
    "override",
    [
        "data.num_workers=2",
        "data.cache_dir=/tmp/x",
        "run.root=elsewhere",
        "run.name=mine",
        "logger=wandb",
        "trainer.progress_bar=false",
        "trainer.num_threads=1",
        "callbacks.overlays.n_cases=2",
    ],
)
def test_where_it_computes_does_not(override: str) -> None:
    assert identity(override) == identity()


def test_a_newer_attnseg_finds_the_runs_of_an_older_one() -> None:
    """Who adds a key lists its neutral value in `_CAME_LATER`, else every id changes.

    A changed default is another run, and then this id has to change, too.
    """
    assert identity() == "a1de08b4"
    assert identity("loss.segmentation.blob=0.5") != identity()


def _on(digest: str | None, *overrides: str) -> TrainConfig:
    config = compose_checked("train", overrides, TrainConfig)
    return config.model_copy(update={"data_digest": digest})


def test_ids_of_every_version_stay_what_they_are() -> None:
    ids = run_ids(_on("0" * 32))
    assert ids == {"1": "a1de08b4", "2": "9f990bff", "3": "0eb1d8ef"}
    assert run_identity(_on("0" * 32)) == ids["3"]
    other = run_ids(_on("1" * 32))
    assert other["1"] == ids["1"]
    for version in ("2", "3"):
        assert other[version] != ids[version]
        assert run_ids(_on("0" * 32, "seed=2"))[version] != ids[version]


@pytest.mark.parametrize(
    ("words", "golden"),
    [
        (("attention=none", "schedule=none"), {"1": "32e65703", "2": "3a8a8958", "3": "a2e4e985"}),
        (("model=resnet18", "attention=drr"), {"1": "53704660", "2": "4906ddd3", "3": "4f198b1e"}),
        (("data=lidc_drr",), {"1": "546c3ef0", "2": "8816ef3f", "3": "3abf4f75"}),
    ],
)
def test_ids_of_other_parts_stay_too(words: tuple[str, ...], golden: dict[str, str]) -> None:
    assert run_ids(_on("0" * 32, *words)) == golden


def test_one_of_ours_is_the_same_by_name_and_by_class() -> None:
    named = run_ids(_on("0" * 32, "attention=drr"))
    options = ("attention.stride=4", "attention.temperature=1.0")
    by_class = _on("0" * 32, "attention._target_=attnseg.nn.attention.drr.DrrAttention", *options)
    assert by_class.attention.options == _on("0" * 32, "attention=drr").attention.options
    assert run_ids(by_class) == named


def test_what_says_nothing_is_in_no_id_of_version_3() -> None:
    """So that a key which comes later, and is null or empty by default, changes none."""
    said = _what_is_said({"a": None, "b": {"c": [], "d": {}}, "e": [{"f": None}], "g": 0, "h": ""})
    assert said == {"e": [{}], "g": 0, "h": ""}


@pytest.mark.parametrize(
    "word", ["model.network.act=null", "model.network.kernel_size=[]", "model.network.norm={}"]
)
def test_null_or_empty_is_an_argument_of_a_class_that_is_not_ours(word: str) -> None:
    """Where nothing is given, its own default holds, which may be anything."""
    words = ("model=unet", "attention=none")
    assert run_ids(_on("0" * 32, *words, word))["3"] != run_ids(_on("0" * 32, *words))["3"]


def test_where_a_split_file_lies_is_in_the_first_version_alone() -> None:
    one, two = (_on("0" * 32, f"data.split.file={name}") for name in ("a.csv", "b.csv"))
    assert run_ids(one)["1"] != run_ids(two)["1"]
    assert run_ids(one)["2"] == run_ids(two)["2"]
    assert run_ids(one)["3"] == run_ids(two)["3"]
    assert identity_record(one)["configuration"] == identity_record(two)["configuration"]


def test_initial_weights_are_what_is_in_their_file(tmp_path: Path) -> None:
    """A file that moved is the same; one that was written anew under its name is not."""

    def ids(path: Path | str) -> dict[str, str]:
        words = ["model=resnet18", f"model.encoder.weights={path}"]
        return run_ids(identified(_on("0" * 32, *words)))

    (one := tmp_path / "one.pth").write_bytes(b"weights")
    (tmp_path / "elsewhere").mkdir()
    (moved := tmp_path / "elsewhere" / "two.pth").write_bytes(b"weights")
    before = ids(one)
    assert ids(moved)["2"] == before["2"] != ids("null")["2"]
    assert ids(moved)["3"] == before["3"] != ids("null")["3"]
    one.write_bytes(b"others")
    assert ids(one)["1"] == before["1"] and ids(one)["2"] != before["2"]
    assert ids(tmp_path / "gone.pth")["2"] != before["2"]  # building the network says so


def test_edited_initial_weights_are_another_run_and_named(tmp_path: Path) -> None:
    (file := tmp_path / "one.pth").write_bytes(b"weights")
    words = ["model=resnet18", f"model.encoder.weights={file}", f"run.dir={tmp_path / 'run'}"]
    config = identified(compose_checked("train", words, TrainConfig))
    folder = RunFolder(tmp_path / "run")
    folder.write_config(config)
    folder.update_status(**identity_record(config))
    data = AttnSegDataModule(config)
    refuse_foreign(folder, config, data)
    file.write_bytes(b"others")
    again = identified(compose_checked("train", words, TrainConfig))
    with pytest.raises(ConfigError, match="weights_digest: '"):
        refuse_foreign(folder, again, data)


def test_a_run_is_told_by_the_newest_id_that_both_have() -> None:
    ours = {"1": "a", "2": "b"}
    assert same_run({"1": "x", "2": "b"}, ours)
    assert not same_run({"1": "a", "2": "x"}, ours)
    assert same_run({"1": "a"}, ours)
    assert not same_run({"1": "x"}, ours)
    assert not same_run({}, ours)
    assert same_run({"1": "x", "2": "b", "3": "c"}, ours)  # of a newer attnseg
    assert recorded_ids({"id": "a"}) == recorded_ids({"identity": "a"}) == {"1": "a"}
    assert recorded_ids({"id": "b", "ids": ours}) == ours
    assert recorded_ids({}) == {}


def test_an_option_that_came_later_and_is_off_is_in_no_configuration_that_is_compared() -> None:
    """What an older attnseg wrote lacks the key, and is the same run."""
    plain = compose_checked("train", [], TrainConfig).model_dump(mode="json")
    before = compose_checked("train", [], TrainConfig).model_dump(mode="json")
    del before["data"]["augment"]["on_device"], before["model"]["deep_supervision"]
    assert defining_keys(plain) == defining_keys(before)


def test_the_same_configuration_meets_its_own_folder_again(train_config: TrainConfig) -> None:
    again = compose_checked("train", [], TrainConfig)
    assert folder_of(train_config).path == folder_of(again).path
    assert run_identity(train_config) in folder_of(train_config).path.name


def test_differences_are_named_key_by_key() -> None:
    theirs = {"optim": {"lr": 0.1, "betas": [1, 2]}, "seed": 1}
    ours = {"optim": {"lr": 0.2, "betas": [1, 2]}, "seed": 1}
    assert differences(ours, theirs) == ["optim.lr: 0.1 -> 0.2"]
