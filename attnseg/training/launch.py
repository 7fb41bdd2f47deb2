"""One run, on one process or on many."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnseg.common.credentials import concealed
from attnseg.common.errors import FAILED, USER_MISTAKE, ConfigError, FolderLostError, UserError
from attnseg.common.files import make_folder
from attnseg.config import TrainConfig
from attnseg.runs.folder import folder_of
from attnseg.runs.frozen import freeze, thaw
from attnseg.training.group import FELL, die_with_launcher, first_of_group, group, run_group
from attnseg.training.identified import identified
from attnseg.training.preflight import (
    refuse_compiling_without_compiler,
    refuse_missing_paths,
    refuse_unknown_monitors,
    refuse_unusable_precision,
)

if TYPE_CHECKING:
    from pytorch_lightning import Callback
    from pytorch_lightning.loggers import Logger

WORKER = "attnseg.training.launch"
"""The module that every process of a group runs."""


def launch(
    config: TrainConfig, callbacks: Sequence[Callback] = (), loggers: Sequence[Logger] = ()
) -> int:
    """Run a training to its end.

    Several processes are started by torchrun from the frozen, resolved configuration, so that
    no rank composes anything anew (Lightning's own launcher would re-run the command, and a
    Hydra multirun with it). When one of them falls (it was killed, or gave the others no
    answer for `run.timeout_s`), all start again from the last checkpoint, at most
    `run.max_restarts` times.

    Args:
        config: of the run.
        callbacks, loggers: Lightning's, beside those that the configuration names.

    Returns:
        0 finished, 1 failed, 2 the user's mistake, 75 interrupted and resumable.
    """
    refuse_unknown_monitors(config)
    refuse_unusable_precision(config)
    if group() is None:
        refuse_missing_paths(config)
        refuse_compiling_without_compiler(config)
    config = identified(config)
    given = {"callbacks": callbacks, "loggers": loggers} if callbacks or loggers else {}
    if group() is not None:
        return _fit(config, **given)
    count = processes_wanted(config)
    if count > 1 and given:
        raise ConfigError(
            f"trainer.devices={config.trainer.devices}: its processes are made of the "
            "configuration alone, and callbacks and loggers are objects of this one: train on one "
            "process, or start the script itself by torchrun"
        )
    if config.trainer.num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={config.trainer.num_nodes}: start it on every node, by srun or by "
            f"torchrun --nnodes {config.trainer.num_nodes} --nproc-per-node {count} --rdzv-backend "
            "c10d --rdzv-endpoint HOST:PORT -m attnseg train ..."
        )
    if count == 1:
        _note_idle_tasks()
        return _fit(config, **given)
    folder = folder_of(config)
    make_folder(folder.path, "run.dir" if config.run.dir else "run.root")
    for attempt in range(config.run.max_restarts + 1):
        if attempt and not folder.path.is_dir():
            print(f"attnseg train: {FolderLostError(folder.path)}", file=sys.stderr)
            return FAILED
        if attempt:
            print(f"a process fell; restart {attempt} from the last checkpoint", flush=True)
            config = config.model_copy(update={"resume": "auto"})
            for left in folder.path.glob("traceback*.txt"):  # of ranks that lost the fallen one
                left.unlink(missing_ok=True)
        frozen = folder.path / "launch.yaml"
        words = ["-m", WORKER, str(frozen), *freeze(config, frozen)]
        code = run_group(count, words, grace_s=config.run.grace_s, timeout_s=config.run.timeout_s)
        if code != FELL:
            return code
    folder.try_update_status(state="failed", reason="a process fell once too often")
    print(
        f"attnseg train: a process fell again (run.max_restarts={config.run.max_restarts}); "
        f"the same command goes on from the last checkpoint: {folder.path}",
        file=sys.stderr,
    )
    return FAILED


def _note_idle_tasks() -> None:
    """Say so where SLURM has given tasks that this process alone leaves idle."""
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if "SLURM_JOB_ID" in os.environ and tasks not in ("", "0", "1"):
        print(
            f"note: SLURM has given this job {tasks} tasks, and one process trains; "
            "srun attnseg train ... trainer=ddp trainer.devices=(tasks on a node) uses them all",
            flush=True,
        )


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


def worker(frozen: Path, digest: str, *trust: str) -> int:
    """One process of a group: train from the frozen configuration (see `attnseg.runs.frozen`)."""
    die_with_launcher()
    try:
        return _fit(thaw(frozen, digest, *trust))
    except UserError as error:
        if first_of_group():
            print(f"attnseg train: {error}", file=sys.stderr)
        return USER_MISTAKE
    except Exception as error:  # its traceback is in the run folder
        rank = os.environ.get("RANK", "0")
        print(concealed(f"rank {rank}: {type(error).__name__}: {error}"), file=sys.stderr)
        return FAILED


def _fit(config: TrainConfig, **given: Any) -> int:
    from attnseg.training.fit import fit

    return fit(config, **given)


if __name__ == "__main__":
    sys.exit(worker(Path(sys.argv[1]), *sys.argv[2:]))
