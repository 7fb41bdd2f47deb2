"""A run goes on with the threads it began with, on the processes it began with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from attnseg.common.errors import INTERRUPTED, ConfigError
from attnseg.runs.checkpoints import read_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.training.fit import fit
from attnseg.training.launch import launch
from attnseg.training.machine import other_processor, use_threads
from tests.conftest import TINY, configure
from tests.exactness import assert_equal_runs
from tests.training.test_exact_resume import stopped_at

FREE = ("trainer.num_threads=null", "schedule=none", "schedule.total_epochs=1")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    yield
    torch.set_num_threads(1)


def test_a_run_goes_on_with_the_threads_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Begun with two and gone on with in a process that has one: equal to the bit."""
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    torch.set_num_threads(2)
    assert fit(configure(whole.path, *FREE)) == 0
    with stopped_at(1, monkeypatch):
        assert fit(configure(broken.path, *FREE)) == INTERRUPTED
    torch.set_num_threads(1)
    with pytest.raises(ConfigError, match=r"trainer\.num_threads=1: this run was begun with 2"):
        fit(configure(broken.path, *FREE, "trainer.num_threads=1"))
    capsys.readouterr()
    assert fit(configure(broken.path, *FREE)) == 0
    assert "CPU threads: 2, as the run began with; here it would be 1" in capsys.readouterr().out
    assert torch.get_num_threads() == 1  # as before the run
    assert_equal_runs(whole, broken)
    for record in (broken.read_status(), read_checkpoint(broken.last)["attnseg"]):
        assert (record["threads"], record["processes"]) == (2, 1)
        assert record["cpu"]["model"] and record["cpu"]["capability"]


@pytest.mark.full
def test_the_environment_does_not_cap_them(tmp_path: Path) -> None:
    """OMP_NUM_THREADS=1 is what torch begins with, no limit: a run of two threads is the same."""
    code = "import sys; from attnseg.cli import main; sys.exit(main(sys.argv[1:]))"
    for threads in (1, 2):
        words = [*TINY, f"run.dir={tmp_path / str(threads)}", "trainer.num_threads=2"]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-c", code, "train", *words]
        assert subprocess.run(command, env=environment).returncode == 0
    assert_equal_runs(RunFolder(tmp_path / "1"), RunFolder(tmp_path / "2"))


@pytest.mark.parametrize(
    ("words", "began", "taken"),
    [
        ((), None, 3),  # the process's own
        (("launcher.threads=2",), None, 2),  # a launcher's share
        (("trainer.num_threads=4", "launcher.threads=2"), None, 4),
        (("launcher.threads=2",), 1, 1),
        (("trainer.num_threads=4",), 4, 4),
    ],
)
def test_whose_number_counts(
    words: tuple[str, ...], began: int | None, taken: int, tmp_path: Path
) -> None:
    torch.set_num_threads(3)
    then = {"threads": began} if began else {}
    note = use_threads(configure(tmp_path, *FREE, *words), then)
    assert torch.get_num_threads() == taken
    assert bool(note) == (began == 1)


def test_another_processor_is_told() -> None:
    ours = {"cpu": {"model": "A", "capability": "AVX2"}}
    assert other_processor({}, ours) == ""  # an older attnseg did not record it
    assert other_processor(ours, ours) == ""
    assert (
        other_processor({"cpu": {"model": "B", "capability": "AVX2"}}, ours) == "B AVX2 -> A AVX2"
    )
    assert other_processor(ours, {**ours, "gpu": "G"}) == "A AVX2 -> G"


def test_two_processes_do_not_go_on_with_a_run_of_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not at an epoch's end either; a fork may, and keeps the global batch where it says so."""
    begun = configure(tmp_path / "run", "trainer.max_epochs=1")
    assert fit(begun) == 0
    status = RunFolder(tmp_path / "run").read_status()
    words = ("trainer=ddp_cpu", *TINY[-2:])
    assert launch(configure(tmp_path / "run", *words)) == 2
    text = capfd.readouterr().err
    assert "of 1 process with data.batch_size=2, 2 cases a step; on 2 processes" in text
    assert "data.batch_size=1 would keep the steps" in text
    assert RunFolder(tmp_path / "run").read_status() == status
    forked = (*words, f"fork={tmp_path / 'run'}", "data.batch_size=1")
    assert launch(configure(tmp_path / "child", *forked)) == 0
    status = RunFolder(tmp_path / "child").read_status()
    assert (status["state"], status["processes"]) == ("finished", 2)
