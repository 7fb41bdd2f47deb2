"""Freed memory that stays with the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnseg.common import memory
from attnseg.common.memory import ready_device
from attnseg.training import fit as module
from attnseg.training.fit import fit
from tests.conftest import configure

FAULTS = """
import resource, torch
from attnseg.common.memory import reuse_freed_memory
if {reuse}:
    assert reuse_freed_memory()
def fill():
    torch.zeros(16, 2**20).add_(1.0)  # 64 MiB, freed at once
for _ in range(10):  # glibc cuts aligned blocks out of larger ones: a few places, then no more
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, reuse: bool) -> int:
    code = FAULTS.format(reuse=reuse)
    told = ("MALLOC_", "GLIBC_", "LD_PRELOAD")  # by whoever runs the tests
    plain = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    command = [sys.executable, "-c", code]
    return int(subprocess.run(command, capture_output=True, check=True, env=plain).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the switch is glibc's")
def test_a_freed_block_is_used_again() -> None:
    assert faults(reuse=True) < faults(reuse=False) / 2


@pytest.mark.parametrize("reuse", [True, False])
def test_training_asks_for_it_unless_told_otherwise(
    reuse: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []
    monkeypatch.setattr(module, "reuse_freed_memory", lambda: asked.append(None))
    words = ("trainer.max_epochs=1", f"trainer.reuse_memory={str(reuse).lower()}")
    assert fit(configure(tmp_path, *words)) == 0
    assert len(asked) == reuse


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "device"),
    [("cpu", False, "cpu"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("auto", True, "cuda")],
)
def test_so_do_evaluations_and_predictions_on_the_cpu(
    accelerator: str, has_gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []
    monkeypatch.setattr(memory, "reuse_freed_memory", lambda: asked.append(None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert ready_device(accelerator) == device
    assert len(asked) == (device == "cpu")
