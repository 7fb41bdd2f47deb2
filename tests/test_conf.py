"""Every shipped config is composed, checked against the schema, and built."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import yaml

from attnseg.build import build_loss, build_model, build_schedule, build_weighting
from attnseg.commands.help import group_options
from attnseg.commands.train import GROUPS
from attnseg.common.paths import conf_dir
from attnseg.component import KINDS
from attnseg.config import (
    AnalyzeConfig,
    CompareConfig,
    DataBuildConfig,
    DataCommandConfig,
    DataMaskConfig,
    DrrConfig,
    EvaluateConfig,
    ExportConfig,
    PredictConfig,
    RunsListConfig,
    RunsPruneConfig,
    RunsShowConfig,
    Section,
    TrainConfig,
    validate,
)
from attnseg.config.component import registry
from attnseg.config.compose import compose, compose_checked
from attnseg.config.drr import MasksConfig
from attnseg.config.signatures import read_signature
from attnseg.imaging.drr.views import project_view
from tests.imaging.drr.helpers import chest, volume

NOT_OF_TRAINING = {"projection"}  # groups of other commands
OPTIONS = [
    (group, option)
    for group in sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
    if group not in NOT_OF_TRAINING
    for option in group_options(group)
]
CONTROLS = ("attention_unet", "unet", "basic_unet", "dynunet")


def overrides_for(group: str, option: str) -> list[str]:
    chosen = [f"{group}={option}"]
    if group == "model" and option in CONTROLS:
        chosen.append("attention=none")  # a control has no attention
    return chosen


@pytest.mark.parametrize(
    ("group", "option"),
    [
        *((group, option) for group in ("attention", "data") for option in group_options(group)),
        ("model", "dual_pathway"),
        ("model", "original"),
    ],
)
def test_a_file_says_every_option_as_its_constructor_does(group: str, option: str) -> None:
    """A default stands in the constructor; the file is its readable copy."""
    written = yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text())
    signature = read_signature(registry(group)[written["name"]], KINDS[group].provided)
    assert signature is not None
    for name, each in signature.options.items():
        if each.slot is None:
            assert name in written, f"conf/{group}/{option}.yaml lacks {name}"
            default = list(each.default) if isinstance(each.default, tuple) else each.default
            assert written[name] == default, name


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_is_composed_checked_and_built(group: str, option: str) -> None:
    config = compose_checked("train", overrides_for(group, option), TrainConfig)
    schedule = build_schedule(config.schedule)
    assert schedule.total_epochs >= 1
    build_weighting(config.schedule.adaptive, config.loss.names)
    if group in ("model", "attention", "experiment"):
        model = build_model(config.model, config.attention)
        image = torch.randn(1, 1, 64, 64)
        with torch.inference_mode():
            output = model.eval()(image, image)
        assert output.mask_logits.shape == output.attention.shape == image.shape
        weights = schedule.weights(0)
        loss = build_loss(config.loss)
        terms = loss(output, torch.zeros_like(image), weights)
        assert torch.isfinite(terms["total"])


def test_help_lists_every_group() -> None:
    folders = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    assert folders - {"run"} - NOT_OF_TRAINING == set(GROUPS)


def test_the_data_options_are_the_sources() -> None:
    options = set(group_options(conf_dir() / "data"))
    assert options == set(registry("data"))
    for option in options - {"phantom"}:
        config = compose_checked("train", [f"data={option}", "data.root=x"], TrainConfig)
        assert config.data.name == option and config.data.root == "x"


@pytest.mark.parametrize(
    ("command", "schema"),
    [("evaluate", EvaluateConfig), ("analyze", AnalyzeConfig)],
)
def test_the_measuring_commands_compose(command: str, schema: type[EvaluateConfig]) -> None:
    config = compose_checked(command, ["checkpoint=x", "data=phantom"], schema)
    assert config.data is not None
    assert config.data.name == "phantom"


@pytest.mark.parametrize("option", group_options(conf_dir() / "projection"))
def test_every_projection_is_composed_checked_and_projects(option: str) -> None:
    config = compose_checked("drr", [f"projection={option}", "ct=a", "out=b"], DrrConfig)
    assert config.projection.name == option
    hu, mask = chest()
    ct = volume(hu, (2.0, 1.5, 1.5))
    nodules = volume(mask.astype(np.int32), (2.0, 1.5, 1.5))
    result = project_view(ct, nodules, config.projection, config.projection.views[0])
    assert np.isfinite(result.image).all()
    assert result.image.max() > result.image.min()
    assert result.nodules is not None
    assert result.nodules.mask.any()


def test_drr_says_the_schemas_own_defaults() -> None:
    config = compose_checked("drr", ["ct=a", "out=b"], DrrConfig)
    for name, field in DrrConfig.model_fields.items():
        if not field.is_required() and name != "masks":
            assert getattr(config, name) == field.default, name
    assert config.masks == MasksConfig()


def test_the_building_command_composes_with_every_source() -> None:
    for option in group_options(conf_dir() / "data"):
        config = compose_checked("data_build", [f"data={option}", "out=x"], DataBuildConfig)
        assert config.data.name == option
        assert config.images == "link"
        assert config.data.split.test_fraction == 0.15


def test_the_masking_command_says_the_schemas_own_defaults() -> None:
    plain = compose("data_mask", ["annotations=a", "ct=b", "out=c"], DataMaskConfig)
    assert set(plain) == set(DataMaskConfig.model_fields)
    needed = {"annotations": "a", "ct": "b", "out": "c"}
    assert validate(plain, DataMaskConfig) == validate(needed, DataMaskConfig)


def test_the_data_command_composes() -> None:
    config = compose_checked("data_command", ["data=phantom", "n_cases=3"], DataCommandConfig)
    assert config.n_cases == 3


@pytest.mark.parametrize(
    ("command", "schema", "words"),
    [
        ("compare", CompareConfig, {"runs": ["a"]}),
        ("runs_list", RunsListConfig, {}),
        ("runs_show", RunsShowConfig, {"run": "a"}),
        ("runs_prune", RunsPruneConfig, {}),
        ("predict", PredictConfig, {"checkpoint": "a", "images": "b", "out": "c"}),
        ("export", ExportConfig, {"checkpoint": "a"}),
    ],
)
def test_the_files_of_commands_say_the_schemas_own_defaults(
    command: str, schema: type[Section], words: dict[str, Any]
) -> None:
    needed = words if command in ("predict", "export") else {}  # which files show as ???
    plain = compose(command, [f"{key}={value}" for key, value in needed.items()], schema)
    config = validate({**plain, **words}, schema)
    assert {*plain, *words} == set(schema.model_fields), "a key that no file shows"
    for name, field in schema.model_fields.items():
        if not field.is_required():
            assert getattr(config, name) == field.default, name


@pytest.mark.parametrize("option", group_options(conf_dir() / "experiment"))
def test_an_experiment_opens_with_command_cost_and_result(option: str) -> None:
    text = (conf_dir() / "experiment" / f"{option}.yaml").read_text()
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for word in ("command:", "cost:", "expected:"):
        assert word in head, f"{option}: no '{word}' in its opening comment"
