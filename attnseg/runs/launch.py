"""One run, on one process or on many."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from pathlib import Path

import yaml

from attnseg.config import TrainConfig, validate
from attnseg.errors import INTERRUPTED, USER_MISTAKE, ConfigError, UserError
from attnseg.runs.files import make_folder, write_text
from attnseg.runs.folder import folder_of


def inside_group() -> bool:
    """Whether this process already is one of a group (torchrun, or SLURM tasks)."""
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1
    return torchrun or slurm


def processes_wanted(config: TrainConfig) -> int:
    """How many processes this machine must start; 1 where Lightning needs no group.

    Raises:
        ConfigError: `devices` asks for more GPUs than there are.
    """
    settings = config.trainer
    devices = settings.devices
    available = 1
    if settings.accelerator in ("gpu", "cuda"):
        import torch

        available = torch.cuda.device_count()
        if available == 0:
            raise ConfigError(
                f"trainer.accelerator={settings.accelerator}: this machine shows no GPU to torch; "
                "use trainer=cpu, or trainer=ddp_cpu for several processes"
            )
    if devices in (-1, "-1", "auto"):
        return available
    try:
        count = len(devices) if isinstance(devices, list) else int(devices)
    except ValueError:
        count = 0
    if count < 1:
        raise ConfigError(
            f"trainer.devices={devices}: give a number above 0, a list such as [0,1], or auto"
        )
    return count


def launch(config: TrainConfig) -> int:
    """Run a training to its end.

    Several processes are started by torchrun from the frozen, resolved configuration, so that
    no rank composes anything anew (Lightning's own launcher would re-run the command, and a
    Hydra multirun with it).

    Returns:
        The exit code.
    """
    count = processes_wanted(config)
    if count == 1 or inside_group():
        from attnseg.runs.fit import fit

        return fit(config)
    folder = folder_of(config)
    make_folder(folder.path, "run.dir" if config.run.dir else "run.root")
    frozen = folder.path / "launch.yaml"
    write_text(frozen, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    return _run_group(count, frozen)


def _run_group(count: int, frozen: Path) -> int:
    """Start `count` processes on this machine and wait for them; the first failure's exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Its own account of a failed child is a page of tracebacks; ours is the exit code.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
    try:
        elastic_launch(settings, sys.executable)("-m", "attnseg.runs.launch", str(frozen))
    except ChildFailedError as error:
        return max(1, next(iter(error.failures.values())).exitcode)
    except SignalException:
        return INTERRUPTED
    return 0


def worker(frozen: Path) -> int:
    """One process of a group: train from the frozen configuration."""
    from attnseg.runs.fit import fit

    try:
        return fit(validate(yaml.safe_load(frozen.read_text()), TrainConfig))
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"attnseg train: {error}", file=sys.stderr)
        return USER_MISTAKE


if __name__ == "__main__":
    sys.exit(worker(Path(sys.argv[1])))
