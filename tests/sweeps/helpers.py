"""What the sweeps' tests share: sweeps in this process and in others, and how they are read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from attnseg.cli import main
from tests.conftest import TINY, tiny

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = (*TINY, "data.augment.enabled=false")


def sweep(root: Path, *words: str) -> int:
    """`attnseg train -m` in this process."""
    small = [word for word in SMALL if word in tiny(*words) or word not in TINY]
    return main(["train", "-m", *small, f"run.root={root}", *words])


def sweep_elsewhere(
    root: Path, *words: str, before: str = "", wait: bool = True
) -> subprocess.Popen[str]:
    """The same in a process of its own, after some code (to kill it at a chosen point)."""
    arguments = ["train", "-m", *SMALL, f"run.root={root}", *words]
    script = f"{before}\nimport sys\nfrom attnseg.cli import main\nsys.exit(main({arguments!r}))\n"
    # A file, since processes that multiprocessing spawns look for the main module's.
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if wait:
        process.wait(timeout=240)
    return process


def record(root: Path) -> dict[str, Any]:
    """The one sweep.json under a root."""
    (path,) = root.glob("sweeps/*/sweep.json")
    return dict(json.loads(path.read_text()))


def states(root: Path) -> dict[str, str]:
    """Name to state, of every job."""
    return {job["name"]: job["state"] for job in record(root)["jobs"]}


def run_folder(root: Path, name: str) -> Path:
    """The run folder that the record gives for a job."""
    (path,) = root.glob("sweeps/*/sweep.json")
    (job,) = (job for job in record(root)["jobs"] if job["name"] == name)
    return (path.parent / job["run_dir"]).resolve()


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a run with its time and bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
