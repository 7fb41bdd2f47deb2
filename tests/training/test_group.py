"""Who has started this process, as the variables of SLURM and torchrun tell it."""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path

import pytest

from attnseg.common.errors import ConfigError
from attnseg.training.fit import fit
from attnseg.training.group import first_of_group, group, run_group
from attnseg.training.launch import launch
from tests.conftest import configure

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2"}
SALLOC = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "interactive"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train"}
STEP = {**BATCH, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}
SHELL = {**SALLOC, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}  # srun --pty bash


@pytest.fixture
def srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of that name on the PATH."""
    command = tmp_path / "bin" / "srun"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("variables", "started_by", "first"),
    [
        ({}, None, True),
        ({"RANK": "1"}, None, True),  # as other programs' launchers leave it
        (TORCHRUN, "torchrun", False),
        (SALLOC, None, True),
        (BATCH, None, True),
        (SHELL, None, True),
        (STEP, "slurm", False),
        ({**STEP, **TORCHRUN, "RANK": "0"}, "torchrun", True),  # torchrun on every node
    ],
)
def test_who_has_started_a_process(
    variables: dict[str, str],
    started_by: str | None,
    first: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (group(), first_of_group()) == (started_by, first)


@pytest.mark.parametrize("variables", [{}, SALLOC, BATCH, SHELL])
def test_srun_on_the_path_is_no_warning_and_idle_tasks_are_told(
    variables: dict[str, str],
    srun: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    words = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert launch(configure(tmp_path / "run", *words)) == 0
    assert not [str(each.message) for each in caught if "srun" in str(each.message)]
    assert ("SLURM has given this job 2 tasks" in capsys.readouterr().out) == bool(variables)


def test_tasks_that_lightning_cannot_place_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="--ntasks-per-node"):
        fit(configure(tmp_path / "run"))


@pytest.mark.parametrize("nohup", [False, True])
def test_a_groups_launcher_passes_on_what_it_heeds(
    nohup: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every signal that stops a run, but not the SIGHUP that nohup has switched off."""
    from torch.distributed.launcher import api

    seen: list[str] = []
    monkeypatch.setattr(
        api,
        "elastic_launch",
        lambda settings, program: lambda *words: seen.append(settings.signals_to_handle),
    )
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    try:
        assert run_group(2, ["-c", ""], grace_s=1, timeout_s=1) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    wanted = {"SIGINT", "SIGTERM", "SIGUSR1"} | (set() if nohup else {"SIGHUP"})
    assert set(seen[0].split(",")) == wanted
