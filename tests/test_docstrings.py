"""Networks, losses, schedules and metrics alone: each public one has an example that runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import attnseg

ROOMS = ("nn", "losses", "schedules", "metrics")
HOME = Path(attnseg.__file__).parent
MODULES = sorted(
    ".".join(("attnseg", *path.relative_to(HOME).with_suffix("").parts))
    for room in ROOMS
    for path in (HOME / room).rglob("*.py")
    if path.name != "__init__.py"
)
OF_FILES = {"PretrainedResNet", "read_resnet_weights", "read_efficientnet_weights"}
"""These need a file of weights."""


@pytest.mark.parametrize("name", MODULES)
def test_every_public_one_has_an_example_that_runs(name: str) -> None:
    module = importlib.import_module(name)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name[0] == "_":
            continue
        made = getattr(module, node.name)
        if node.name in OF_FILES or inspect.isabstract(made) or getattr(made, "_is_protocol", 0):
            continue
        assert ">>> " in (made.__doc__ or ""), f"{name}.{node.name} has no example"
    torch.manual_seed(0)
    before = vars(module).copy()
    failed, _ = doctest.testmod(module, extraglobs={"torch": torch, "np": np}, verbose=False)
    assert not failed
    assert vars(module).keys() <= before.keys() | {"__warningregistry__"}


def test_they_need_no_configuration_and_no_trainer() -> None:
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {MODULES}]; "
        "print([name for name in ('pydantic', 'hydra', 'omegaconf', 'attnseg.config') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
