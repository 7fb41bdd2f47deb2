"""Reading a component's options from its source, and from itself."""

from __future__ import annotations

import importlib
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from attnseg.component import KINDS
from attnseg.config.component import registry
from attnseg.config.signatures import (
    REQUIRED,
    UNTOLD,
    Signature,
    find_module,
    imported_signature,
    read_signature,
)

SOURCE = '''
import os
from typing import Annotated, Literal
from torch import Tensor
from ourpack.names import Size, WIDTH
from .names import Size as Again
raise RuntimeError("imported")

class Part:
    """First line
    and second.

    Third."""

    name = "part"
    over_run = True

    def __init__(self, given, size: Size, again: "Again" = "small", *, width: int = WIDTH,
                 ratio: float | Tensor = -0.5, mode: Literal["a", "b"] = "a",
                 some: list[int] = [1, 2], hook: Tensor = None, odd: int = os.sep,
                 pairs: dict[str, int] | None = None) -> None:
        ...

class Inherits(Part): ...
class Open:
    def __init__(self, **options): ...
def curve(t, teeth: int = 3): ...
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "ourpack"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "names.py").write_text(
        "from typing import Literal\nSize = Literal['small', 'large']\nWIDTH = 8\n"
    )
    (folder / "parts.py").write_text(SOURCE)
    (folder / "inner" / "__init__.py").write_text(
        "from ourpack.parts import Part\nfrom ..parts import curve as saw\nfrom ..parts import *\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_options_are_read_from_the_text_and_nothing_is_imported(package: Path) -> None:
    signature = read_signature("ourpack.parts.Part", ("given", "elsewhere"))
    assert signature is not None
    assert list(signature.options) == [
        "size", "again", "width", "ratio", "mode", "some", "hook", "odd", "pairs",
    ]  # fmt: skip
    options = signature.options
    assert options["size"].default is REQUIRED and options["odd"].default is UNTOLD
    assert options["size"].annotation == typing.Literal["small", "large"]
    assert options["again"].annotation == typing.Literal["small", "large"]
    assert (options["width"].default, options["ratio"].default) == (8, -0.5)
    assert options["ratio"].annotation is float  # a tensor is nothing that a file can hold
    assert options["some"].default == [1, 2] and options["hook"].annotation is typing.Any
    assert signature.asks_for == ("given",) and not signature.open
    assert signature.doc == "First line\nand second." and signature.place.endswith(":9")
    assert signature.constants == {"name": "part", "over_run": True}
    assert signature.name is None  # only ours are registered
    assert not any(name.startswith("ourpack") for name in sys.modules)


def test_explicit_re_exports_are_followed(package: Path) -> None:
    for target in ("ourpack.inner.Part", "ourpack.inner.saw"):
        found = read_signature(target)
        assert found is not None and found.target.startswith("ourpack.parts.")


@pytest.mark.parametrize(
    "target",
    ["ourpack.inner.Inherits", "ourpack.parts.Inherits", "ourpack.parts.Open",
     "ourpack.parts.Missing", "ourpack.parts.SOURCE", "ourpack.nothing.Part", "nowhere.Part",
     "Part", "json.dumps.x"],
)  # fmt: skip
def test_where_the_text_is_silent_it_says_so(package: Path, target: str) -> None:
    assert read_signature(target) is None


def test_a_file_that_is_no_python_is_no_module(package: Path) -> None:
    (package / "broken.py").write_text("def (:\n")
    assert find_module("ourpack.broken") is None and read_signature("ourpack.broken.x") is None


def test_a_changed_file_is_read_anew(package: Path) -> None:
    (package / "one.py").write_text("class A:\n    def __init__(self, x: int = 1): ...\n")
    assert read_signature("ourpack.one.A").options["x"].default == 1  # type: ignore[union-attr]
    (package / "one.py").write_text("class A:\n    def __init__(self, x: int = 22): ...\n")
    assert read_signature("ourpack.one.A").options["x"].default == 22  # type: ignore[union-attr]


def test_an_imported_class_tells_the_same() -> None:
    from torch.optim.lr_scheduler import StepLR

    text = read_signature("torch.optim.lr_scheduler.StepLR", ("optimizer",))
    itself = imported_signature("torch.optim.lr_scheduler.StepLR", StepLR, ("optimizer",))
    assert text is not None and text.asks_for == itself.asks_for == ("optimizer",)
    for name in ("step_size", "gamma"):
        assert text.options[name] == itself.options[name]
    assert imported_signature("x", lambda **options: None).open


@pytest.mark.parametrize("kind", KINDS)
def test_ours_are_told_wholly_by_their_text(kind: str) -> None:
    """Every option of ours has a plain type, a documented meaning and a default that is read."""
    for name, target in registry(kind).items():
        signature: Signature | None = read_signature(target, KINDS[kind].provided)
        assert signature is not None and signature.name == name, target
        module, _, cls = target.rpartition(".")
        made = getattr(importlib.import_module(module), cls)
        assert imported_signature(target, made, KINDS[kind].provided).options.keys() == (
            signature.options.keys()
        )
        for key, option in signature.options.items():
            assert option.default is not UNTOLD or option.slot, (target, key)
            assert option.doc, f"{target}: {key} has no Doc"


def test_no_torch_for_a_mistyped_key() -> None:
    code = (
        "import sys; from attnseg.cli import main\n"
        "assert main(['train', 'attention.hidden_chanels=3', 'loss.segmentation.dise=1']) == 2\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "did you mean 'attention.hidden_channels'" in done.stderr
    assert "did you mean 'loss.segmentation.dice'" in done.stderr
