"""Loggers of Lightning or of anybody: `logger.<name>._target_=mylab.loggers.Notebook`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from attnseg.build import factory
from attnseg.common.errors import ConfigError
from attnseg.config import Component
from attnseg.training.loggers.resilience import NeverStops, NoExperiment


class _Others(NeverStops):
    """Before the class of a logger that is not ours: nothing that it raises stops a training."""

    @property
    def experiment(self) -> Any:
        """Its own, or one that does nothing once it has failed."""
        if not self.failed:
            with self.guarded():
                return super().experiment  # type: ignore[misc]
        return NoExperiment()

    def log_graph(self, *args: Any, **kwargs: Any) -> None:
        """Log, if it still works."""
        if not self.failed:
            with self.guarded():
                super().log_graph(*args, **kwargs)  # type: ignore[misc]

    def after_save_checkpoint(self, *args: Any) -> None:
        """Pass on, if it still works."""
        if not self.failed:
            with self.guarded():
                super().after_save_checkpoint(*args)  # type: ignore[misc]


def other_logger(name: str, chosen: Component, folder: Path) -> Logger:
    """Make one.

    Args:
        name: that the configuration gives it.
        chosen: its class and arguments.
        folder: of the run, where it writes what it writes unless it is told another `save_dir`.

    Raises:
        ConfigError: its class fails, or is none of a logger.
    """
    options = {}
    if "save_dir" in chosen.signature.options and chosen.options.get("save_dir") is None:
        options["save_dir"] = str(folder)
    make = factory(chosen)
    assert isinstance(make, functools.partial)
    found = make.func
    if not (isinstance(found, type) and issubclass(found, Logger)):
        raise ConfigError(f"logger.{name}: {chosen.target} is no class of a Lightning Logger")
    own = {"title": f"logger.{name}", "__module__": found.__module__}
    guarded = type(found.__name__, (_Others, found), own)
    made: Logger = type(make)(guarded, **make.keywords)(**options)
    return made
