"""Optuna's study of a search: opened, asked and told in one way everywhere."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnseg.config import (
    CategoricalSpace,
    FloatSpace,
    OptunaSweepConfig,
    PrunerConfig,
    Space,
)
from attnseg.errors import ConfigError
from attnseg.files import sqlite_url
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger

_PATIENCE_S = 120  # for another worker's write, before SQLite gives up


def load_optuna() -> Any:
    """Optuna, quiet.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise ConfigError("sweep=optuna needs Optuna: pip install 'attnseg[optuna]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def storage_url(config: OptunaSweepConfig, folder: Path) -> str:
    """Where the study is kept: the URL given, or SQLite in the sweep's folder."""
    return config.storage or sqlite_url(folder / "study.db")


def open_storage(url: str) -> Any:
    """An RDB storage; `$NAME` in its URL is read from the environment, since a configuration is
    written to many places and a password must not be.

    Raises:
        ConfigError: the database cannot be reached, or its driver is not installed.
    """
    optuna = load_optuna()
    url = os.path.expandvars(url)
    options = {"connect_args": {"timeout": _PATIENCE_S}} if url.startswith("sqlite") else {}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        raise ConfigError(_needs_a_driver(url, error)) from None
    except Exception as error:  # a database's own kinds, many
        lines = str(error).splitlines() or [type(error).__name__]
        raise ConfigError(f"sweep.storage: cannot be opened ({lines[0]})") from None


def _needs_a_driver(url: str, error: ImportError) -> str:
    """What to install; `postgresql://` alone means psycopg since SQLAlchemy 2.1."""
    scheme = url.partition("://")[0]
    head = f"sweep.storage={scheme}://...: its driver is not installed"
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        return (
            f"{head}: pip install 'psycopg[binary]' (or psycopg2-binary, with a URL that begins "
            "with postgresql+psycopg2://)"
        )
    if scheme.partition("+")[0] in ("mysql", "mariadb"):
        return f"{head}: pip install pymysql, with a URL that begins with mysql+pymysql://"
    cause = error.__cause__ or error
    return f"{head} ({next(iter(str(cause).splitlines()), type(cause).__name__)})"


def open_study(config: OptunaSweepConfig, name: str, url: str) -> Any:
    """The study, made where it is missing."""
    optuna = load_optuna()
    return optuna.create_study(
        study_name=name,
        storage=open_storage(url),
        load_if_exists=True,
        directions=[objective.direction for objective in config.objectives],
        pruner=build_pruner(config.pruner),
    )


def running_trial(config: OptunaSweepConfig) -> Any:
    """The trial that a run is, inside the run's own process."""
    optuna = load_optuna()
    assert config.trial is not None
    study = optuna.load_study(
        study_name=config.trial.study,
        storage=open_storage(config.trial.storage or config.storage or ""),
        pruner=build_pruner(config.pruner),
    )
    frozen = study.get_trials(deepcopy=False)[config.trial.number]
    return optuna.trial.Trial(study, frozen._trial_id)


def build_pruner(config: PrunerConfig) -> Any:
    """Optuna's pruner; a step is an epoch."""
    pruners = load_optuna().pruners
    warmup = config.warmup_epochs
    match config.name:
        case "median":
            return pruners.MedianPruner(config.startup_trials, warmup)
        case "percentile":
            return pruners.PercentilePruner(config.percentile, config.startup_trials, warmup)
        case "successive_halving":
            return pruners.SuccessiveHalvingPruner(min_resource=max(1, warmup))
        case "hyperband":
            return pruners.HyperbandPruner(min_resource=max(1, warmup))
    return pruners.NopPruner()


def build_sampler(config: OptunaSweepConfig, number: int) -> Any:
    """The sampler of one trial, seeded by (seed, number).

    A sampler that lives as long as its process starts its random numbers anew with every
    process, and repeats the points of the first. This one's suggestion follows from the seed,
    the trial's number and the trials before it alone.
    """
    samplers = load_optuna().samplers
    seed = int.from_bytes(hashlib.sha256(f"{config.seed}/{number}".encode()).digest()[:4], "big")
    if config.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    return samplers.TPESampler(seed=seed, n_startup_trials=config.startup_trials)


def distributions(space: Mapping[str, Space]) -> dict[str, Any]:
    """The search space in Optuna's classes."""
    kinds = load_optuna().distributions
    made: dict[str, Any] = {}
    for key, each in space.items():
        if isinstance(each, CategoricalSpace):
            made[key] = kinds.CategoricalDistribution(each.choices)
        elif isinstance(each, FloatSpace):
            made[key] = kinds.FloatDistribution(each.low, each.high, log=each.log, step=each.step)
        else:
            made[key] = kinds.IntDistribution(each.low, each.high, log=each.log, step=each.step)
    return made


def objective_values(config: OptunaSweepConfig, folder: RunFolder) -> list[float] | None:
    """What a finished run achieved; None where a metric was undefined.

    Raises:
        ConfigError: the ledger has no such column.
    """
    rows = read_ledger(folder.ledger)
    best = folder.read_status().get("best")
    if config.at == "best" and best:
        rows = [row for row in rows if row["epoch"] == str(best["epoch"])]
    values = []
    for objective in config.objectives:
        column = [row[objective.metric] for row in rows if objective.metric in row]
        if not column and rows:
            known = ", ".join(sorted(key for key in rows[-1] if key.startswith("val/")))
            raise ConfigError(
                f"sweep.objectives: {objective.metric}: not in {folder.ledger}; there are {known}"
            )
        filled = [text for text in column if text]
        if not filled:
            return None
        values.append(float(filled[-1]))
    return values if all(map(math.isfinite, values)) else None
