"""Kills a real training again and again, and compares what comes out with an undisturbed one.

    python benchmarks/crash_test.py --kills 20 [--processes 2] [--seed 0] [--keep DIR]

A training on the embedded phantom runs in a process of its own (with --processes 2: a launcher
and two gloo workers). It is killed with SIGKILL at a random moment, and started again by the
same command, until it has been killed as often as asked and has finished. The moments are
uniform over the whole life of a process, its start and its checkpoint writes included: the
script measures how long an undisturbed run takes, and checkpoints are written at every step.

What counts: 0 checkpoints that could not be loaded, 0 values that differ. Weights, optimizer,
EMA, adaptive weights, callbacks' states and the ledger are compared without any tolerance.

Takes about five minutes on two cores for 20 kills (one process).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from attnseg.common.errors import CheckpointError  # noqa: E402
from attnseg.runs.checkpoints import read_checkpoint  # noqa: E402
from attnseg.runs.folder import RunFolder  # noqa: E402
from tests.exactness import assert_equal_runs  # noqa: E402

SETTINGS = (
    "data.n_cases=24",
    "data.size=64",
    "data.patch.size=64",
    "data.patch.per_case=3",
    "schedule=dwa",
    "schedule.total_epochs=10",
    "callbacks.ema.enabled=true",
    "callbacks.checkpoint.every_n_steps=1",
    "callbacks.overlays.every_n_epochs=0",
    "trainer.progress_bar=false",
)
GROUP = ("trainer=ddp_cpu", "data.batch_size=2", "trainer.progress_bar=false")
ALONE = ("trainer=cpu", "trainer.num_threads=1", "data.batch_size=4", "trainer.progress_bar=false")


def start(folder: Path, processes: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """The training, in a process of its own; what it says goes to a file beside the folder."""
    words = [*SETTINGS, *(GROUP if processes > 1 else ALONE), f"trainer.devices={processes}"]
    command = [sys.executable, "-m", "attnseg", "train", *words, f"run.dir={folder}"]
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def wait_until_released(folder: RunFolder) -> None:
    """A killed launcher's workers end with it; until then they hold the run's lock."""
    if (folder.path / ".lock").exists():
        with (folder.path / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)


def loads(folder: RunFolder) -> bool:
    """Whether the last checkpoint, if there is one yet, is whole."""
    try:
        if folder.last.exists():
            read_checkpoint(folder.last)
    except CheckpointError as error:
        print(f"LOST: {error}")
        return False
    return True


def differs(one: RunFolder, other: RunFolder) -> bool:
    """Whether anything of the two finished runs is not equal to the bit."""
    try:
        assert_equal_runs(one, other)
    except AssertionError as error:
        print(f"DIFFERS: {error}")
        return True
    return False


def crash(
    whole: RunFolder,
    folder: RunFolder,
    duration: float,
    arguments: argparse.Namespace,
    environment: dict[str, str],
) -> dict[str, int]:
    """Kill the training as often as asked, then let it finish."""
    draw = random.Random(arguments.seed)
    found = dict.fromkeys(("kills", "lost", "torn", "finished", "differing"), 0)
    while True:
        process = start(folder.path, arguments.processes, environment)
        wanted = found["kills"] < arguments.kills
        try:
            code = process.wait(draw.uniform(0.0, duration) if wanted else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            wait_until_released(folder)
            found["kills"] += 1
            found["torn"] += len(list(folder.path.rglob(".*.tmp")))
            found["lost"] += not loads(folder)
            step = read_checkpoint(folder.last)["global_step"] if folder.last.exists() else 0
            print(f"kill {found['kills']:3d}: last.ckpt is of step {step}", flush=True)
            continue
        if code != 0:
            tail = folder.path.with_suffix(".log").read_text()[-3000:]
            raise SystemExit(f"the training ended with {code}\n{tail}")
        found["finished"] += 1
        found["differing"] += differs(folder, whole)
        if not wanted:
            return found
        # It was through before the moment came: begin anew, so that every kill hits a training.
        shutil.rmtree(folder.path)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="keep both run folders here")
    arguments = parser.parse_args()
    home = arguments.keep or Path(tempfile.mkdtemp(prefix="attnseg-crash-"))
    home.mkdir(parents=True, exist_ok=True)
    scratch = "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()
    environment = os.environ | {"TMPDIR": scratch, "OMP_NUM_THREADS": "1"}
    whole, broken = RunFolder(home / "whole"), RunFolder(home / "broken")
    try:
        began = time.monotonic()
        if start(whole.path, arguments.processes, environment).wait() != 0:
            raise SystemExit(f"the undisturbed training failed: {whole.path.with_suffix('.log')}")
        duration = time.monotonic() - began
        print(f"undisturbed: {duration:.0f} s, {read_checkpoint(whole.last)['global_step']} steps")
        found = crash(whole, broken, duration, arguments, environment)
    finally:
        if arguments.keep is None:
            shutil.rmtree(home, ignore_errors=True)
    print(
        f"{found['kills']} kills (signal {signal.SIGKILL.value}) on {arguments.processes} "
        f"process(es), {found['torn']} of them inside a write: {found['lost']} lost; "
        f"{found['finished']} finished, {found['differing']} differing"
    )
    return 1 if found["lost"] or found["differing"] else 0


if __name__ == "__main__":
    sys.exit(main())
