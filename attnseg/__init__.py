"""Supervised, anatomically aware attention for lung-nodule segmentation on DRRs and X-rays.

From Python:

    import attnseg

    config = attnseg.compose(["data=phantom", "schedule.total_epochs=30"])
    run = attnseg.fit(config)
    attnseg.evaluate(run.folder, split="val").metrics["dice_positive"]
    attnseg.load(run.folder).predict(xray, drr, spacing=(0.7, 0.7)).lesions

or under a Trainer of one's own, which then trains the same to the bit:

    trainer = pl.Trainer(**attnseg.trainer_arguments(config))
    trainer.fit(attnseg.AttnSegModule(config), datamodule=attnseg.AttnSegDataModule(config))

Nothing is imported before it is asked for. In a trusted project's folder its conf/ and package are
found, as by every command.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from attnseg.config.compose import compose_training as compose
    from attnseg.data.datamodule import AttnSegDataModule
    from attnseg.evaluation.job import evaluate
    from attnseg.inference.trained import load
    from attnseg.training.from_python import fit
    from attnseg.training.module import AttnSegModule
    from attnseg.training.trainer import trainer_arguments

__all__ = [
    "AttnSegDataModule",
    "AttnSegModule",
    "__version__",
    "compose",
    "evaluate",
    "fit",
    "load",
    "trainer_arguments",
]

_HOMES = {
    "AttnSegDataModule": ("data.datamodule", "AttnSegDataModule"),
    "AttnSegModule": ("training.module", "AttnSegModule"),
    "compose": ("config.compose", "compose_training"),
    "evaluate": ("evaluation.job", "evaluate"),
    "fit": ("training.from_python", "fit"),
    "load": ("inference.trained", "load"),
    "trainer_arguments": ("training.trainer", "trainer_arguments"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'attnseg' has no attribute {name!r}")
    from attnseg.common.project import activate

    if note := activate():  # as every command does
        warnings.warn(note, stacklevel=2)
    module, own = _HOMES[name]
    return getattr(importlib.import_module(f"attnseg.{module}"), own)


def __dir__() -> list[str]:
    return sorted(__all__)
