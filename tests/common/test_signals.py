"""Stop signals: who hears them, and what happens to output that nobody reads any more."""

from __future__ import annotations

import multiprocessing
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from attnseg.common.errors import INTERRUPTED
from attnseg.common.parallel import for_each
from attnseg.common.signals import STOP, handled, leave_to_parent
from attnseg.runs.folder import RunFolder
from attnseg.training.fit import fit
from tests.conftest import TINY, configure

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


def test_every_stop_signal_is_heard_and_its_handler_goes_back() -> None:
    before = [signal.getsignal(number) for number in STOP]
    heard: list[int] = []
    with handled(lambda number, frame: heard.append(number), signal.SIGUSR1):
        for number in (*STOP, signal.SIGUSR1):
            os.kill(os.getpid(), number)
    assert heard == [*STOP, signal.SIGUSR1]
    assert [signal.getsignal(number) for number in STOP] == before


def test_outside_the_main_thread_none_is_heard() -> None:
    seen: list[Any] = []

    def listen() -> None:
        with handled(lambda number, frame: None) as heard:
            seen.append(heard)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [[]]


def test_under_nohup_a_run_does_not_hear_that_its_terminal_has_gone(
    nohup: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.training.callbacks.interruption import Interruption

    original = Interruption.on_train_batch_end

    def hang_up(self: Interruption, *arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        original(self, *arguments)

    monkeypatch.setattr(Interruption, "on_train_batch_end", hang_up)
    assert fit(configure(tmp_path, "trainer.max_epochs=1")) == 0
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def _struck(item: int) -> int:
    """In a loader's worker: what a signal to its whole process group does to it."""
    for number in (*STOP, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    return item


@pytest.fixture(params=["fork", "spawn"])
def starting(request: pytest.FixtureRequest) -> Iterator[None]:
    """How this process starts others, which other packages may have changed."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(request.param, force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def test_a_loaders_worker_leaves_stopping_to_its_parent(starting: None) -> None:
    def refuse(number: int, frame: Any) -> None:
        raise AssertionError("inherited by the worker")

    with handled(refuse, signal.SIGUSR1):
        found = for_each(_struck, range(3), description="", workers=2, worth_processes=1)
    assert found == [0, 1, 2]


class _Hanging(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        time.sleep(300)
        return index


def test_a_worker_that_hangs_obeys_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)
    loader = DataLoader(_Hanging(), num_workers=1, worker_init_fn=leave_to_parent, timeout=1)
    with pytest.raises(RuntimeError, match="timed out"):
        next(iter(loader))
    deadline = time.monotonic() + 30
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_any_other_command_ends_with_one_line(number: int, code: int) -> None:
    script = (
        "import os, sys, time; from attnseg import cli; from attnseg.commands import drr\n"
        f"drr.main = lambda words: (os.kill(os.getpid(), {int(number)}), time.sleep(60))\n"
        "sys.argv = ['attnseg', 'drr']; cli.entry()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == code
    assert done.stderr == f"attnseg drr: interrupted ({signal.Signals(number).name})\n"


def test_what_nobody_reads_any_more_is_no_error() -> None:
    """As after Ctrl-C to `attnseg train | tee log`, which ends tee, too."""
    script = (
        "import sys, time; from attnseg.common.signals import outlive_readers\n"
        "sys.stdin.readline(); outlive_readers()\n"
        "print('lost', flush=True); print('kept', file=sys.stderr)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout and process.stdin and process.stderr
        process.stdout.close()
        process.stdin.write("go\n")
        process.stdin.close()
        assert process.stderr.read() == "kept\n"
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("train", ["data.num_workers=1"]),
        pytest.param("train", ["trainer=ddp_cpu", "data.batch_size=1"], marks=pytest.mark.full),
        pytest.param("train -m", ["seed=1,2"], marks=pytest.mark.full),
        pytest.param("train -m", ["seed=1,2", "launcher=joblib"], marks=pytest.mark.full),
    ],
)
def test_a_run_whose_terminal_is_closed_saves_and_can_go_on(
    mode: str, words: list[str], tmp_path: Path
) -> None:
    """SIGHUP to the process group, loader's workers included, and nowhere to print to."""
    words = [*TINY, "trainer.accelerator=cpu", "schedule.total_epochs=99", *words]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        place = [f"run.root={tmp_path}", "trainer.progress_bar=true"]
        command = [sys.executable, "-m", "attnseg", *mode.split(), *words, *place]
        os.execv(sys.executable, command)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("*/metrics.csv")) and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == INTERRUPTED
    begun = [RunFolder(path.parent) for path in tmp_path.glob("*/status.json")]
    assert begun
    for folder in begun:
        assert folder.read_status()["state"] == "interrupted"
    assert any(folder.read_status()["reason"].endswith("; saved") for folder in begun)
    assert not list(tmp_path.glob("*/traceback*"))
