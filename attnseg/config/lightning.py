"""What of Lightning's Trainer a configuration may set beside the keys of its own.

Names and types are read from Lightning's source, so a mistyped one costs no import of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, create_model

from attnseg.config.signatures import UNTOLD, Option, read_signature

_TRAINER = "pytorch_lightning.trainer.trainer.Trainer"

REFUSED: Mapping[str, str] = {
    "logger": "loggers are logger.<name>._target_=...",
    "callbacks": "callbacks are callbacks.<name>._target_=...",
    "default_root_dir": "it is run.dir",
    "gradient_clip_val": "it is optim.gradient_clip_norm",
    "gradient_clip_algorithm": "gradients are clipped to a norm: optim.gradient_clip_norm",
    "log_every_n_steps": "it is logger.log_every_n_steps",
    "enable_progress_bar": "it is trainer.progress_bar",
    "enable_checkpointing": "a run is resumed from its last.ckpt, and its best.ckpt is its result",
    "enable_autolog_hparams": "every logger gets the whole configuration",
    "model_registry": "checkpoints stay in the run's folder",
    "barebones": "it turns off the checkpoints and metrics that a run is made of",
    "plugins": "how checkpoints are written and processes find each other is what an exact resume "
    "rests on",
    "use_distributed_sampler": "cases are shared out among processes without repeating any",
    "reload_dataloaders_every_n_epochs": "a resumed run has to find its loader where it was",
    "num_sanity_val_steps": "a validation before the first step would be measured as one",
    "val_check_interval": "a run is measured when an epoch ends, in one row of its ledger, from "
    "which early stopping, best.ckpt and a resume go on; less often is "
    "trainer.check_val_every_n_epoch",
    "overfit_batches": "it takes the order of cases from the sampler, which keys it by seed and "
    "epoch; for a few cases to overfit: data.split.train_fraction=0.05 data.augment.enabled=false",
    "limit_test_batches": "a training has no test loop; attnseg evaluate measures all of a split",
    "limit_predict_batches": "a training predicts nothing; attnseg predict does",
}
"""Arguments that would break an exact resume or contradict what is ours, each with its reason."""


@cache
def trainer_options() -> Mapping[str, Option]:
    """The keyword arguments of Lightning's Trainer."""
    signature = read_signature(_TRAINER)
    return signature.options if signature is not None else {}


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check arguments of the Trainer; what is as it would be anyway is left out.

    Raises:
        ValidationError: of pydantic, for what is none, refused, or of another type.
    """
    fields: dict[str, Any] = {
        name: (_annotation(name, option), None)
        for name, option in trainer_options().items()
        if name in given
    }
    schema = create_model("Trainer", __config__=ConfigDict(extra="forbid"), **fields)
    plain = schema.model_validate(dict(given)).model_dump()
    return {k: v for k, v in plain.items() if v != trainer_options()[k].default}


def _annotation(name: str, option: Option) -> Any:
    if name in REFUSED:
        return Annotated[Any, BeforeValidator(partial(_refuse, REFUSED[name]))]
    assert option.default is not UNTOLD, name
    return option.annotation


def _refuse(reason: str, value: object) -> object:
    raise ValueError(f"refused: {reason}")
