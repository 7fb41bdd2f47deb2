"""`--help KEY`: keys, types, ranges, defaults and meanings, from the schema alone."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field

from attnseg.cli import main
from attnseg.config import Section, TrainConfig
from attnseg.config.describe import describe, words_for
from attnseg.config.validation import validate


class _Inner(Section):
    depth: Annotated[int, Field(ge=2, le=9)] = 3  # of the well
    kind: Literal["a", "b"]


class _Outer(Section):
    inner: _Inner
    many: dict[str, _Inner] = {}  # noqa: RUF012
    rate: float | None = None
    names: list[str] = ["x", "y"]  # noqa: RUF012


def test_a_key_has_type_range_default_and_meaning() -> None:
    found = {key.path: (key.kind, key.default, key.text) for key in describe(_Outer, [])}
    assert found == {
        "inner.depth": ("int >= 2 <= 9", "3", "of the well"),
        "inner.kind": ("a | b", "", ""),
        "many.<name>.depth": ("int >= 2 <= 9", "3", "of the well"),
        "many.<name>.kind": ("a | b", "", ""),
        "rate": ("number or null", "null", ""),
        "names": ("list of text", "[x, y]", ""),
    }
    assert [key.path for key in describe(_Outer, ["many", "mine", "depth"])] == [
        "many.<name>.depth"
    ]
    assert describe(_Outer, ["inner", "nothing"]) == []


def test_a_components_options_are_its_constructors() -> None:
    keys = describe(TrainConfig, ["attention"])
    found = {key.path: key for key in keys}
    assert {"attention=none", "attention=anatomical"} <= set(found)
    assert found["attention.stride"].kind == "1 | 2 | 4 | 8"
    assert found["attention.stride"].default == "4"
    assert found["attention.temperature"].text == "small is sharp"
    curve = {key.path for key in describe(TrainConfig, ["schedule"])}
    assert "schedule.phases.<name>.weights.<name>.steps" in curve


def test_every_key_of_the_configuration_is_listed() -> None:
    for name in TrainConfig.model_fields:
        assert describe(TrainConfig, [name]), name


def test_the_command_lists_groups_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help", "attention", "optim.lr"]) == 0
    text = capsys.readouterr().out
    assert "attention=anatomical | drr | none | supervised" in text
    assert "optim.lr" in text
    paths = [key.path for key in describe(TrainConfig, ["optim"])]  # what any optimizer has, too
    assert {"optim.gradient_clip_norm", "optim.lr_schedule.kind=step"} <= set(paths)
    assert main(["train", "--help", "atention"]) == 2
    assert "--help atention: no such key" in capsys.readouterr().err


def test_it_imports_no_torch() -> None:
    script = (
        "import sys; from attnseg.cli import main; main(['train', '--help', 'model', 'loss']);"
        "assert not {'torch', 'hydra'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_words_for_types() -> None:
    assert words_for(tuple[float, float]) == "2 x number"
    assert words_for(int | str | list[int]) == "int or text or list of int"
    assert words_for(bool | Literal["warn"]) == "true | false or warn"
    assert validate({"inner": {"kind": "a"}}, _Outer).inner.depth == 3
