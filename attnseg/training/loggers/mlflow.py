"""MLflow, through Lightning's own class; by default one SQLite file for all runs of a root."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger

from attnseg.common.errors import ConfigError
from attnseg.common.files import sqlite_url
from attnseg.config import TrainConfig
from attnseg.runs.adoption import logged_as
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_name
from attnseg.training.loggers.described import group_of
from attnseg.training.loggers.resilience import NeverStops

_IDENTITY = "attnseg.id"


class Mlflow(NeverStops, MLFlowLogger):
    """One MLflow run a training run: a resume goes on with it."""

    title = "MLflow"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Once: MLflow takes no other value for what a resume may change."""
        with self.guarded():
            if not self.failed and not self.experiment.get_run(self.run_id).data.params:
                super().log_hyperparams(*args, **kwargs)


def mlflow_logger(config: TrainConfig, folder: RunFolder) -> Mlflow:
    """The logger of a run; its experiment is `logger.project`.

    Raises:
        ConfigError: `logger.tracking_uri` cannot be opened.
    """
    for name in ("mlflow", "alembic", "pytorch_lightning.loggers.mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)  # how it makes its tables
    settings = config.logger
    root = Path(config.run.root).resolve()
    uri = settings.tracking_uri or sqlite_url(root / "mlflow.db")
    if settings.tracking_uri is None:
        root.mkdir(parents=True, exist_ok=True)
    identity = logged_as(folder, config)
    group = group_of(config)
    tags = {_IDENTITY: identity, **dict.fromkeys(settings.tags, "true")}
    try:
        from mlflow.tracking import MlflowClient

        return Mlflow(
            experiment_name=settings.project,
            run_name=run_name(config),
            tracking_uri=uri,
            tags=tags | ({"attnseg.group": group} if group else {}),
            artifact_location=None if settings.tracking_uri else (root / "mlruns").as_uri(),
            run_id=_earlier(MlflowClient(uri), settings.project, identity),
        )
    except Exception as error:  # whatever the store behind the URI raises
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"logger.tracking_uri={uri}: MLflow cannot open it: {reason}") from None


def _earlier(client: Any, project: str, identity: str) -> str | None:
    """The MLflow run that an earlier part of this run has begun."""
    experiment = client.get_experiment_by_name(project)
    if experiment is None:
        return None
    wanted = f"tags.`{_IDENTITY}` = '{identity}'"
    found = client.search_runs([experiment.experiment_id], wanted, max_results=1)
    return str(found[0].info.run_id) if found else None
