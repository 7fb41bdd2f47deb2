"""The schema: unknown keys, wrong types and contradictions, all listed at once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from attnseg.common.errors import ConfigError
from attnseg.config import ScheduleConfig, SplitConfig, TrainConfig, validate
from attnseg.config.compose import compose_checked


@pytest.fixture
def plain(train_config: TrainConfig) -> dict[str, Any]:
    return train_config.model_dump(mode="json")


def test_a_valid_config_round_trips(plain: dict[str, Any]) -> None:
    assert validate(plain, TrainConfig).model_dump(mode="json") == plain


def test_every_mistake_is_listed_at_once_with_a_suggestion(plain: dict[str, Any]) -> None:
    plain["trainer"]["max_epoch"] = 3
    plain["data"]["batch_size"] = "many"
    plain["schedule"]["phases"]["joint"]["epoch"] = 3
    with pytest.raises(ConfigError) as error:
        validate(plain, TrainConfig)
    message = str(error.value)
    assert "trainer.max_epoch: no such key; did you mean 'trainer.max_epochs'?" in message
    assert "data.batch_size" in message
    assert "'many'" in message
    assert "schedule.phases.joint.epoch: no such key; did you mean" in message


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("data.size=[512,256]", "one number is needed, the side of a square in px; rectangular"),
        ("data.patch.size=[64,32]", "one number is needed, the side of a square in px"),
        ("model.out_channels=3", "one class is segmented, lesion or not; several are not"),
        ("data.n_classes=2", "one class is segmented"),
        ("model.in_channels=3", "one grey channel each; more channels are not supported"),
        ("model.encoder.in_channels=3", "one grey channel each"),
    ],
)
def test_what_is_not_ours_is_refused_with_the_reason(word: str, reason: str) -> None:
    key = word.partition("=")[0]
    with pytest.raises(ConfigError, match=f"{re.escape(key)}: .*{reason}"):
        compose_checked("train", [word], TrainConfig)


def test_wrong_loss_weights_are_told_with_their_path(plain: dict[str, Any]) -> None:
    plain["loss"]["segmentation"] |= {"blob": -0.5, "boundary": "some", "blob_kind": "focal"}
    plain["loss"]["segmentation"]["bloob"] = 1.0
    with pytest.raises(ConfigError) as error:
        validate(plain, TrainConfig)
    message = str(error.value)
    assert "loss.segmentation.blob: input should be greater than or equal to 0" in message
    assert "(got -0.5)" in message
    assert "loss.segmentation.boundary: input should be a valid number" in message
    assert "loss.segmentation.blob_kind: input should be 'dice' or 'tversky'" in message
    assert "loss.segmentation.bloob: no such key; did you mean 'loss.segmentation.blob'?" in message


def test_true_is_no_number(plain: dict[str, Any]) -> None:
    plain["model"] |= {"deep_supervision": True}
    plain["model"]["encoder"] |= {"channels": [8, True, 8]}
    plain["optim"]["lr"] = True
    with pytest.raises(ConfigError) as error:
        validate(plain, TrainConfig)
    lines = sorted(str(error.value).splitlines()[1:])
    assert lines == [
        "  - model.deep_supervision: must be a number (got true)",
        "  - model.encoder.channels.1: must be a number (got true)",
        "  - optim.lr: must be a number (got true)",
    ]


def test_a_missing_key_is_named(plain: dict[str, Any]) -> None:
    del plain["schedule"]["name"]
    with pytest.raises(ConfigError, match=r"schedule\.name: needed, and not set"):
        validate(plain, TrainConfig)


@pytest.mark.parametrize(
    ("section", "values", "reason"),
    [
        (SplitConfig, {"val_fraction": 0.6, "test_fraction": 0.5}, "no patient for training"),
        (SplitConfig, {"kind": "kfold", "folds": 3, "fold": 3}, "fold=3 does not exist"),
        (
            ScheduleConfig,
            {"name": "x", "phases": {"a": {"epochs": 1}, "b": {"epochs": 1}}, "total_epochs": 1},
            "fewer than the 2 phases",
        ),
    ],
)
def test_contradictions_are_refused(section: Any, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        validate(values, section)


def test_a_contradiction_is_told_at_the_users_path(plain: dict[str, Any]) -> None:
    plain["data"]["patch"]["size"] = 512
    plain["attention"] = {"name": "none"}
    plain["schedule"]["phases"]["joint"]["weights"]["segmentation"] = 0.0
    plain["schedule"]["phases"]["joint"]["weights"]["attention"] = 1.0
    with pytest.raises(ConfigError, match=r"- data: patch\.size=512 is larger"):
        validate(plain, TrainConfig)
    plain["data"]["patch"]["size"] = None
    with pytest.raises(ConfigError, match=r"- schedule\.phases\.joint: the segmentation weight"):
        validate(plain, TrainConfig)


def test_a_number_is_a_constant_curve() -> None:
    phase = {"epochs": 2, "weights": {"attention": 0.3}}
    schedule = validate({"name": "x", "phases": {"a": phase}}, ScheduleConfig)
    assert schedule.phases["a"].weights["attention"].start == 0.3


def test_a_config_cannot_be_changed(train_config: TrainConfig) -> None:
    with pytest.raises(ValueError, match="frozen"):
        train_config.seed = 3  # type: ignore[misc]


def test_the_trainers_names_are_lightnings() -> None:
    """They are listed so that a mistyped one is told without an import of Lightning."""
    from typing import get_args

    from pytorch_lightning.accelerators import AcceleratorRegistry
    from pytorch_lightning.strategies import StrategyRegistry
    from pytorch_lightning.trainer.connectors.accelerator_connector import _PRECISION_INPUT

    from attnseg.config.training import Accelerator, Precision, _known_strategy

    theirs = {name for union in get_args(_PRECISION_INPUT) for name in get_args(union)}
    assert set(get_args(Precision)) == {name for name in theirs if isinstance(name, str)}
    listed = set(AcceleratorRegistry.available_accelerators())
    assert set(get_args(Accelerator)) == listed | {"auto", "gpu"}
    for name in StrategyRegistry.available_strategies():
        assert _known_strategy(name) == name
