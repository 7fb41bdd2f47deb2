"""Going on after SLURM's time limit."""

from __future__ import annotations

import os
import signal
import subprocess

from attnseg.common.console import tell


def requeue_if_asked(received: int | None) -> bool:
    """Put the SLURM job back into the queue where SIGUSR1 announced its end.

    `sbatch --signal=USR1@120` sends SIGUSR1 two minutes before the time limit; Lightning's users
    know it as its auto-requeue. The requeued job gives the same command and so goes on.

    Args:
        received: the signal that the run was stopped by.

    Returns:
        Whether the job was requeued.
    """
    if received != signal.SIGUSR1 or "SLURM_JOB_ID" not in os.environ:
        return False
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        tell(f"SLURM job {job} could not be requeued ({str(reason).strip()}); submit it again")
        return False
    tell(f"SLURM job {job} is requeued and will go on from here")
    return True
