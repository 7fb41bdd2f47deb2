"""Every shipped config is composed, checked against the schema, and built."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnseg.commands.compose import compose, compose_checked
from attnseg.commands.help import group_options
from attnseg.commands.train import GROUPS
from attnseg.config import (
    AnalyzeConfig,
    CompareConfig,
    DataCommandConfig,
    EvaluateConfig,
    ExportConfig,
    LidcDrrDataConfig,
    ManifestDataConfig,
    PredictConfig,
    RunsListConfig,
    RunsPruneConfig,
    RunsShowConfig,
    Section,
    TrainConfig,
    validate,
)
from attnseg.losses import CombinedLoss, build_adaptive
from attnseg.models import build_model
from attnseg.paths import conf_dir
from attnseg.schedules import Schedule

OPTIONS = [
    (group, option)
    for group in sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
    for option in group_options(conf_dir() / group)
]
CONTROLS = ("attention_unet", "unet", "basic_unet", "dynunet")


def overrides_for(group: str, option: str) -> list[str]:
    chosen = [f"{group}={option}"]
    if group == "model" and option in CONTROLS:
        chosen.append("attention=none")  # a control has no attention
    return chosen


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_is_composed_checked_and_built(group: str, option: str) -> None:
    config = compose_checked("train", overrides_for(group, option), TrainConfig)
    schedule = Schedule(config.schedule)
    assert schedule.total_epochs >= 1
    build_adaptive(config.schedule.adaptive)
    if group in ("model", "attention", "experiment"):
        model = build_model(config.model, config.attention)
        image = torch.randn(1, 1, 64, 64)
        with torch.inference_mode():
            output = model.eval()(image, image)
        assert output.mask_logits.shape == output.attention.shape == image.shape
        weights = schedule.weights(0)
        loss = CombinedLoss(config.loss)
        terms = loss(output, torch.zeros_like(image), weights)
        assert torch.isfinite(terms["total"])


def test_help_lists_every_group() -> None:
    folders = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    assert folders - {"run"} == set(GROUPS)


def test_the_data_options_are_the_sources() -> None:
    for option, schema in (("lidc_drr", LidcDrrDataConfig), ("manifest", ManifestDataConfig)):
        config = compose_checked("train", [f"data={option}", "data.root=x"], TrainConfig)
        assert isinstance(config.data, schema)


@pytest.mark.parametrize(
    ("command", "schema"),
    [("evaluate", EvaluateConfig), ("analyze", AnalyzeConfig)],
)
def test_the_measuring_commands_compose(command: str, schema: type[EvaluateConfig]) -> None:
    config = compose_checked(command, ["checkpoint=x", "data=phantom"], schema)
    assert config.data is not None
    assert config.data.name == "phantom"


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
    plain = compose(command, [f"{key}={value}" for key, value in needed.items()])
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
