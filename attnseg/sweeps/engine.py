"""Hydra's launchers, as the engines that start a sweep's jobs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from attnseg.common.errors import ConfigError
from attnseg.common.paths import conf_dir
from attnseg.config import LauncherConfig
from attnseg.config.grammar import assignment
from attnseg.sweeps.record import SweepRecord
from attnseg.sweeps.worker import JobRunner

_PLUGINS = {
    "joblib": ("hydra_joblib_launcher", "joblib"),
    "submitit_local": ("hydra_submitit_launcher", "submitit"),
    "submitit_slurm": ("hydra_submitit_launcher", "submitit"),
    "ray": ("hydra_ray_launcher", "ray"),
}


def refuse_missing(settings: LauncherConfig) -> None:
    """Refuse a launcher whose plugin is not installed.

    Raises:
        ConfigError: names the extra to install.
    """
    if settings.name == "basic":
        return
    module, extra = _PLUGINS[settings.name]
    try:
        found = importlib.util.find_spec(f"hydra_plugins.{module}")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(
            f"launcher={settings.name} needs a plugin of Hydra: pip install 'attnseg[{extra}]'"
        )


def threads_of_a_job(settings: LauncherConfig) -> int | None:
    """CPU threads of one job; None for torch's own choice, where a job has the machine alone."""
    if settings.threads is not None or settings.name == "basic":
        return settings.threads
    return max(1, (os.cpu_count() or 1) // settings.n_jobs)


def launch_jobs(
    settings: LauncherConfig,
    record: SweepRecord,
    grants: Mapping[int, list[str]],
    *,
    fail_fast: bool,
) -> None:
    """Run jobs to their end; how each ended is in its run folder.

    Args:
        settings: which launcher, and how many jobs at once.
        record: the sweep; it holds the jobs' frozen configurations.
        grants: of each job, by its index, what `attnseg.runs.frozen.freeze` returned.
        fail_fast: a failure keeps further jobs from starting.

    Raises:
        Exception: whatever the launcher raises when a worker dies or cannot be started.
        ConfigError: `launcher.options` names something that the launcher does not know.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import HydraContext
    from omegaconf.errors import OmegaConfBaseException

    indices = list(grants)
    runner = JobRunner(
        record.path,
        record.session,
        grants,
        log=settings.name != "basic",
        fail_fast=fail_fast,
        ends_with_sweep=settings.name in ("joblib", "submitit_local"),
    )
    words = [f"hydra/launcher={settings.name}", assignment("hydra.sweep.dir", str(runner.sweep))]
    threads = threads_of_a_job(settings)
    if threads is not None:
        words.append(f"+hydra.job.env_set.OMP_NUM_THREADS='{threads}'")
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(conf_dir()), job_name="attnseg", version_base="1.3"):
        from hydra._internal.callbacks import Callbacks

        try:
            config = compose("sweep_job", [*words, f"index={indices[0]}"], return_hydra_config=True)
            _set_options(config, settings)
            config_loader = GlobalHydra.instance().config_loader()
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=HydraContext(config_loader=config_loader, callbacks=Callbacks()),
                task_function=runner,
                config=config,
            )
        except (HydraException, OmegaConfBaseException) as error:
            first = (str(error).splitlines() or [""])[0]
            raise ConfigError(f"launcher={settings.name}: {first}") from None
        if settings.name.startswith("submitit"):
            _each_alone(launcher, indices, settings.n_jobs)
        else:
            launcher.launch([[f"index={index}"] for index in indices], initial_job_idx=0)


def _each_alone(launcher: Any, indices: Sequence[int], n_jobs: int) -> None:
    """submitit's local executor starts everything at once, and one that dies hides the others'
    results: so each job is submitted by itself, `n_jobs` at a time."""
    errors: list[Exception] = []

    def one(index: int) -> None:
        try:
            launcher.launch([[f"index={index}"]], initial_job_idx=index)
        except Exception as error:
            errors.append(error)

    with ThreadPoolExecutor(min(n_jobs, len(indices))) as pool:
        list(pool.map(one, indices))
    if errors:
        raise errors[0]


def _set_options(config: Any, settings: LauncherConfig) -> None:
    from omegaconf import OmegaConf

    options: dict[str, Any] = dict(settings.options)
    if settings.name == "joblib":
        options = {"n_jobs": settings.n_jobs, **options}
    elif settings.name == "ray":
        options = {"ray.init.num_cpus": settings.n_jobs, "ray.remote.num_cpus": 1, **options}
        if options.get("ray.init.address"):
            options["ray.init.num_cpus"] = None  # the cluster knows its own
    elif settings.name == "submitit_slurm":
        options = {"cpus_per_task": settings.threads, **options}
    for key, value in options.items():
        OmegaConf.update(config, f"hydra.launcher.{key}", value, force_add=key.startswith("ray."))
