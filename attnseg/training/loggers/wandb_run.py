"""Opening a W&B run: whose it is, where it goes, and never waiting long for a server."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Literal

from attnseg.config import TrainConfig
from attnseg.runs.adoption import logged_as
from attnseg.runs.folder import RunFolder
from attnseg.runs.git import GitState
from attnseg.runs.identity import run_name
from attnseg.training.loggers.described import described, group_of

Mode = Literal["online", "offline"]


def has_key() -> bool:
    """Whether a key is set (WANDB_API_KEY, `wandb login`); asks nobody and sends nothing."""
    import wandb

    # Its own lines (who is logged in, how to sync) would be others than ours; errors reach us
    # as exceptions. The mode is given to every run, so WANDB_MODE must not stop the look-up.
    wandb.setup(wandb.Settings(silent=True, mode="online"))
    return bool(wandb.login(prompt=False, verify=False))


def server() -> str:
    """The URL of the W&B server in use."""
    import wandb

    return str(wandb.setup(wandb.Settings(silent=True, mode="online")).settings.base_url)


def unreachable(url: str, timeout_s: float) -> str | None:
    """Why a server cannot be used now, or None where it answers.

    `wandb.init` would find out itself, but then keeps the run's id for a retry, so that the run
    could not go on offline under it.

    Args:
        url: of the W&B server.
        timeout_s: seconds that it may take to answer.
    """
    query = b'{"query": "query ServerFeaturesQuery { serverInfo { features { name } } }"}'
    headers = {"Content-Type": "application/json", "User-Agent": "attnseg"}
    request = urllib.request.Request(f"{url}/graphql", query, headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):
            return None
    except urllib.error.HTTPError as error:
        # Below 500 it is there; what it has against us, `wandb.init` says better.
        return f"{url} answers {error.code}" if error.code >= 500 else None
    except urllib.error.URLError as error:
        return f"{url} cannot be reached ({error.reason})"
    except (OSError, ValueError) as error:
        return f"{url} cannot be reached ({error})"


def wandb_id(config: TrainConfig, folder: RunFolder) -> str:
    """The id of the run's first start; under a W&B sweep agent the one that it has given out."""
    given = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    return given or logged_as(folder, config)


def open_run(
    config: TrainConfig,
    run_id: str,
    *,
    mode: Mode,
    folder: RunFolder,
    directory: Path | None = None,
    git: GitState | None = None,
    entity: str | None = None,
    project: str | None = None,
    finish_timeout_s: float | None = None,
) -> Any:
    """Begin a W&B run, or go on with the one of this id.

    Args:
        config: the training run's.
        run_id: from `wandb_id`.
        mode: online talks to the server; offline writes files.
        folder: the run's.
        directory: W&B makes its folder `wandb` in it; None: in the run's.
        git: the commit to name; None names none.
        entity, project, finish_timeout_s: instead of the configuration's.

    Returns:
        A `wandb.Run`, not made the process's global one: runs of a sweep do not meet.

    Raises:
        Exception: whatever W&B raises (no server, a wrong key, a full disk).
    """
    import wandb

    settings = config.logger
    return wandb.init(
        project=project or settings.project,
        entity=entity or settings.entity,
        id=run_id,
        name=run_name(config),
        group=group_of(config),
        job_type="train",
        tags=settings.tags or None,
        config=described(config, folder),
        allow_val_change=True,  # trainer.* may differ when a run goes on
        resume="allow",
        reinit="create_new",
        mode=mode,
        dir=str(directory or folder.path),
        settings=wandb.Settings(
            silent=True,
            init_timeout=settings.init_timeout_s,
            finish_timeout=finish_timeout_s or settings.finish_timeout_s,
            finish_timeout_raises=True,
            disable_git=git is None,
            git_commit=git.commit if git else None,
            git_remote_url=git.remote if git else None,
            disable_code=True,  # ours is sent as a whole, not the script that was started
        ),
    )
