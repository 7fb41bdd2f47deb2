"""Every option file of conf/model and conf/attention: complete, valid and buildable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from pydantic import BaseModel

from attnseg.build import build_model
from attnseg.config import component
from attnseg.nn.output import count_parameters

from .helpers import images

CONF = Path(__file__).parents[2] / "conf"
MODELS = sorted((CONF / "model").glob("*.yaml"))
ATTENTION = sorted((CONF / "attention").glob("*.yaml"))


def read(path: Path) -> dict[str, Any]:
    """An option's content, upon that of the options which its defaults name."""
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    bases = [read(path.with_name(f"{n}.yaml")) for n in content.pop("defaults", []) if n[0] != "_"]
    merged = OmegaConf.to_container(OmegaConf.merge(*bases, content))
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}


def unsaid(section: BaseModel, said: dict[str, Any], at: str = "") -> list[str]:
    """Keys of the schema that the file leaves out."""
    missing = []
    for key in type(section).model_fields:
        value = getattr(section, key)
        if key not in said:
            missing.append(at + key)
        elif isinstance(value, BaseModel):
            missing += unsaid(value, said[key], f"{at}{key}.")
    return missing


def test_the_option_files_are_there() -> None:
    assert {path.stem for path in ATTENTION} == {"none", "drr", "supervised", "anatomical"}
    assert {path.stem for path in MODELS} >= {"dual_pathway", "original", "resnet50"}


@pytest.mark.parametrize("path", ATTENTION, ids=lambda path: path.stem)
def test_attention_files(path: Path) -> None:
    config = component("attention", read(path))
    assert config.name == path.stem
    assert not unsaid(config, read(path))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_model_files(path: Path) -> None:
    config = component("model", read(path))
    assert not unsaid(config, read(path))
    mechanism = "none" if config.name == "monai" else "drr"
    attention = component("attention", read(CONF / "attention" / f"{mechanism}.yaml"))
    model = build_model(config, attention).eval()
    with torch.no_grad():
        assert model(*images()).mask_logits.shape == (2, 1, 64, 64)


def test_the_default_model_is_light() -> None:
    config = component("model", read(CONF / "model" / "dual_pathway.yaml"))
    attention = component("attention", read(CONF / "attention" / "anatomical.yaml"))
    count = count_parameters(build_model(config, attention).parameters())
    assert 0.5e6 < count < 2e6
