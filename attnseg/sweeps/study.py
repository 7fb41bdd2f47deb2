"""Optuna's study of a search: opened, asked and told in one way everywhere."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnseg.common.errors import ConfigError
from attnseg.common.files import sqlite_url
from attnseg.config import (
    CategoricalSpace,
    FloatSpace,
    OptunaSweepConfig,
    Space,
)
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from attnseg.training.trial import build_pruner, load_optuna, open_storage


def storage_url(config: OptunaSweepConfig, folder: Path) -> str:
    """Where the study is kept: the URL given, or SQLite in the sweep's folder."""
    return config.storage or sqlite_url(folder / "study.db")


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
