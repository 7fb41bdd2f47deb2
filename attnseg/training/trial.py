"""The trial of a search that a run is: Optuna's storage, opened from the run's own process."""

from __future__ import annotations

import os
from typing import Any

from attnseg.common.errors import ConfigError
from attnseg.config import OptunaSweepConfig, PrunerConfig

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
