"""kill -9 at any moment, full disks, locks: nothing is lost, and nothing is held."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from attnseg.common.errors import FAILED, INTERRUPTED, ConfigError, WriteError
from attnseg.common.files import write_atomically, write_text
from attnseg.config import TrainConfig
from attnseg.runs.checkpoints import read_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from attnseg.training import launch as launch_module
from attnseg.training.callbacks.interruption import Interruption
from attnseg.training.fit import fit
from attnseg.training.launch import launch
from tests.conftest import configure
from tests.exactness import assert_equal_runs

ROOT = Path(__file__).parents[2]
THREE_EPOCHS = ("data.n_cases=10", "schedule.total_epochs=3", "callbacks.ema.enabled=true")
SAVING = ("callbacks.checkpoint.every_n_steps=1", "callbacks.overlays.every_n_epochs=0")


def settings(folder: Path, *extra: str) -> TrainConfig:
    return configure(folder, *THREE_EPOCHS, *SAVING, *extra)


def train_in_a_process(config: TrainConfig, fault: dict[str, Any] | None = None) -> int:
    """The exit code of a training in a process of its own; negative: killed by that signal."""
    frozen = Path(str(config.run.dir)) / "launch.yaml"
    write_text(frozen, yaml.safe_dump(config.model_dump(mode="json")))
    other_file_system = "/dev/shm" if Path("/dev/shm").is_dir() else "/tmp"
    return subprocess.run(
        [sys.executable, "-m", "tests.faulty", str(frozen)],
        env=os.environ | {"ATTNSEG_FAULT": json.dumps(fault or {}), "TMPDIR": other_file_system},
        cwd=ROOT,
        check=False,
    ).returncode


def test_three_kills_lose_nothing(tmp_path: Path) -> None:
    """In a step, in the middle of writing a checkpoint, and between ledger and checkpoint."""
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    assert fit(settings(whole.path)) == 0
    faults = (
        {"what": "kill", "step": 2},
        {"what": "kill_while_writing"},
        {"what": "kill_after_ledger", "step": 6},
    )
    for number, fault in enumerate(faults):
        marked = fault | {"once": str(tmp_path / f"fault{number}")}
        assert train_in_a_process(settings(broken.path), marked) == -signal.SIGKILL, fault
        assert read_checkpoint(broken.last)["global_step"] > 0  # always loadable
        assert broken.read_status()["state"] == "running"
        if fault["what"] == "kill_while_writing":
            assert list(broken.last.parent.glob(".*.tmp"))  # half of one, beside the whole one
    assert train_in_a_process(settings(broken.path)) == 0
    assert_equal_runs(broken, whole)
    assert not list(broken.path.rglob(".*.tmp"))
    assert [row["epoch"] for row in read_ledger(broken.ledger)] == ["1", "2", "3"]


def test_a_full_disk_is_one_message_and_the_last_checkpoint_is_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files stands in for the disk: the write fails half way, really."""
    whole, full = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "full")
    assert fit(settings(whole.path)) == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    original = Interruption.on_train_batch_end

    def fill(self: Interruption, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        original(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "on_train_batch_end", fill)
        try:
            code = fit(settings(full.path))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == FAILED
    message = capsys.readouterr().err
    assert "last.ckpt could not be written" in message
    assert "Traceback" not in message
    assert read_checkpoint(full.last)["global_step"] == 3
    assert not list(full.path.rglob(".*.tmp"))
    assert full.read_status()["state"] == "failed"
    assert fit(settings(full.path)) == 0
    assert_equal_runs(full, whole)


def test_a_disk_that_is_full_already_is_one_message_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    config = settings(tmp_path / "second")
    assert fit(settings(tmp_path / "first", "trainer.max_epochs=1")) == 0  # decodes the cases
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
        code = fit(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == FAILED
    assert "could not be written" in capsys.readouterr().err


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "old")

    def fail(stream: Any) -> None:
        stream.write(b"ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WriteError, match=r"file could not be written \(No space left") as caught:
        write_atomically(target, fail)
    assert caught.value.errno == errno.ENOSPC
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_dead_process_keeps_no_lock_and_a_living_one_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    holder = (
        "import sys, time; from pathlib import Path; from attnseg.runs.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).held():\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {process.pid} on"), folder.held():
            pass
        process.kill()
    with folder.held():
        pass


def test_a_stop_before_the_first_step_is_resumable_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from attnseg.data.datamodule import AttnSegDataModule

    def strike(self: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(AttnSegDataModule, "prepare_data", strike)
    assert fit(settings(tmp_path)) == INTERRUPTED
    assert "stopped before the first step" in capsys.readouterr().out


def test_a_start_that_is_stopped_early_leaves_the_status_of_the_running_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only who holds the run says how it is."""
    from attnseg.data.datamodule import AttnSegDataModule

    folder = RunFolder(tmp_path)
    assert fit(settings(folder.path, "trainer.max_epochs=1")) == 0
    folder.update_status(state="running")
    monkeypatch.setattr(
        AttnSegDataModule, "prepare_data", lambda self: os.kill(os.getpid(), signal.SIGTERM)
    )
    with folder.held():
        assert fit(settings(folder.path)) == INTERRUPTED
    assert folder.read_status()["state"] == "running"


def test_a_users_mistake_leaves_a_resumable_run_resumable(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert fit(settings(folder.path, "trainer.max_epochs=2")) == 0
    folder.update_status(state="interrupted")
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs=1: .* is already in epoch"):
        fit(settings(folder.path, "trainer.max_epochs=1"))
    assert folder.read_status()["state"] == "interrupted"
    assert fit(settings(folder.path)) == 0


def test_a_folder_of_other_things_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"no run folder, and not empty \(it holds thesis\.tex\)"):
        fit(settings(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_understood_before_torch_is_imported(number: int, tmp_path: Path) -> None:
    """The console script's first seconds: a start that strikes itself while composing."""
    script = (
        "import os, sys; from attnseg import cli; from attnseg.commands import train\n"
        f"train.main = lambda words: os.kill(os.getpid(), {int(number)})\n"
        "sys.argv = ['attnseg', 'train']; cli.entry()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == INTERRUPTED


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def strike(self: Any, trainer: Any, *arguments: Any) -> None:
        steps.append(trainer.global_step)
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Interruption, "on_train_batch_end", strike)
    assert fit(settings(tmp_path)) == INTERRUPTED
    assert steps == [1, 2]
    assert RunFolder(tmp_path).read_status()["reason"] == "stopped at once"
    assert read_checkpoint(RunFolder(tmp_path).last)["global_step"] == 1


def test_slurm_requeues_after_its_warning_and_the_job_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sbatch --signal=USR1@120`: save, requeue, and the same command continues."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.log\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_NTASKS", "2")  # of the batch job: no step has been started
    whole, queued = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "queued")
    assert fit(settings(whole.path)) == 0
    original = Interruption.on_train_batch_end

    def warn(self: Interruption, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGUSR1)
        original(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "on_train_batch_end", warn)
        assert fit(settings(queued.path)) == INTERRUPTED
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"
    assert fit(settings(queued.path)) == 0
    assert_equal_runs(queued, whole)


# --- several processes ------------------------------------------------------------------------

GROUP = ("trainer=ddp_cpu", "trainer.accelerator=cpu", "data.batch_size=1")


@pytest.fixture(scope="module")
def group_whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An uninterrupted run on two gloo processes."""
    folder = RunFolder(tmp_path_factory.mktemp("group") / "whole")
    assert launch(settings(folder.path, *GROUP)) == 0
    return folder


@pytest.fixture
def faulty_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Makes the processes of the next group fall as told."""
    monkeypatch.setattr(launch_module, "WORKER", "tests.faulty")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def plan(**fault: Any) -> None:
        marked = fault | {"once": str(tmp_path / "fault")}
        monkeypatch.setenv("ATTNSEG_FAULT", json.dumps(marked))

    return plan


def test_a_killed_rank_restarts_the_group_to_the_same_bits(
    group_whole: RunFolder, faulty_group: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    faulty_group(what="kill", step=5, rank=1)
    folder = RunFolder(tmp_path / "run")
    assert launch(settings(folder.path, *GROUP)) == 0
    assert "restart 1 from the last checkpoint" in capfd.readouterr().out
    assert_equal_runs(folder, group_whole)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param(
            {"what": "freeze", "rank": 0, "late_s": 12.0},
            "has been stopped for 10 s (run.tim",
            marks=pytest.mark.full,
        ),
        pytest.param(
            {"what": "hang", "rank": 1},
            "rank 0: another process gave no answer for 10 s",
            marks=pytest.mark.full,
        ),
    ],
)
def test_a_rank_that_gives_no_answer_restarts_the_group_to_the_same_bits(
    fault: dict[str, Any],
    told: str,
    group_whole: RunFolder,
    faulty_group: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And one that takes long before its first step is waited for."""
    faulty_group(**fault, step=5)
    folder = RunFolder(tmp_path / "run")
    words = (*GROUP, "run.timeout_s=10", "run.grace_s=2")
    assert launch(settings(folder.path, *words)) == 0
    out, err = capfd.readouterr()
    assert told in err
    assert "restart 1 from the last checkpoint" in out and "restart 2" not in out
    assert not list(folder.path.glob("traceback*"))
    assert_equal_runs(folder, group_whole)


def test_without_restarts_left_it_failed_and_can_be_resumed(
    group_whole: RunFolder, faulty_group: Any, tmp_path: Path
) -> None:
    faulty_group(what="kill", step=4, rank=0)
    folder = RunFolder(tmp_path / "run")
    assert launch(settings(folder.path, *GROUP, "run.max_restarts=0")) == FAILED
    assert folder.read_status()["state"] == "failed"
    assert launch(settings(folder.path, *GROUP)) == 0
    assert_equal_runs(folder, group_whole)


def test_a_stopped_rank_stops_the_group_and_it_goes_on_to_the_same_bits(
    group_whole: RunFolder, faulty_group: Any, tmp_path: Path
) -> None:
    faulty_group(what="stop", step=5, rank=1)
    folder = RunFolder(tmp_path / "run")
    assert launch(settings(folder.path, *GROUP)) == INTERRUPTED
    assert folder.read_status()["state"] == "interrupted"
    assert read_checkpoint(folder.last)["global_step"] == 5
    assert launch(settings(folder.path, *GROUP)) == 0
    assert_equal_runs(folder, group_whole)


def test_a_killed_launcher_leaves_no_orphans(
    group_whole: RunFolder, faulty_group: Any, tmp_path: Path
) -> None:
    """Orphans would go on training, and hold the run."""
    faulty_group(what="kill_launcher", step=5)
    folder = RunFolder(tmp_path / "run")
    config = settings(folder.path, *GROUP)
    script = (
        "import sys, yaml; from attnseg.config import TrainConfig, validate\n"
        "from attnseg.training import launch\n"
        "launch.WORKER = 'tests.faulty'\n"
        "launch.launch(validate(yaml.safe_load(sys.stdin), TrainConfig))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=yaml.safe_dump(config.model_dump(mode="json")),
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    with (folder.path / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits until the workers are gone
    assert read_checkpoint(folder.last)["global_step"] < 9
    assert launch(config) == 0
    assert_equal_runs(folder, group_whole)
