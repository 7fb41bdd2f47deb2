"""Network and data made ready for a first step, whoever made the Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from attnseg.common.console import tell
from attnseg.common.errors import DataError
from attnseg.common.listing import shortened
from attnseg.config import TrainConfig
from attnseg.config.trust import note_on_network
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.data.splits import unused_split_column
from attnseg.runs.code import Code, continued, listed, other_versions
from attnseg.runs.patients import TrainedPatients
from attnseg.runs.recorded import as_recorded
from attnseg.training.inheritance import trained_patients, validated_on_known
from attnseg.training.origin import warm_start
from attnseg.training.resume import ResumePoint, refuse_other_code

if TYPE_CHECKING:
    from attnseg.training.module import AttnSegModule

_SHOWN = 4  # parts that a warm start leaves as they are, of which there can be dozens


def note(text: str | None) -> None:
    """Tell it, unless there is nothing to tell."""
    if text:
        tell(f"note: {text}")


def code_goes_on(config: TrainConfig, point: ResumePoint, code: Code) -> Code:
    """The code of a run that is resumed; says what has changed of it.

    Raises:
        ConfigError: it has changed, and `resume_code` does not allow it.
    """
    then = point.record.get("code")
    if not isinstance(then, dict):
        note("an older attnseg did not record this run's code; it goes on with today's")
        return code
    changed = refuse_other_code(config, then, code, point.path)
    if changed:
        note(f"it goes on under changed code: {listed(changed)}")
    if versions := other_versions(then, code):
        note(f"it goes on under other versions: {versions}")
    return continued(then, code, changed, point.step)


def ready_network(module: AttnSegModule, trainer: pl.Trainer) -> None:
    """Precision, memory format and compilation, before weights are loaded or copied."""
    config = module.config
    if problem := note_on_network(config):
        note(f"model.network: {problem}")
    # Lightning does this too, but only after a checkpoint's weights were rounded to float32.
    trainer.precision_plugin.convert_module(module)
    if config.trainer.channels_last:
        module.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.trainer.compile:
        module.model.compile()  # in place: the names in the state dict stay


def first_weights(module: AttnSegModule) -> dict[str, Any]:
    """Warm-start where asked; what status.json records of it.

    Raises:
        CheckpointError: the weights of `warmstart` cannot be read, or do not fit.
    """
    config = module.config
    if config.warmstart is None:
        return {}
    record = warm_start(config, module.model)
    named, more = record["fresh"][:_SHOWN], len(record["fresh"]) - _SHOWN
    fresh = f"; fresh: {', '.join(named)}" if named else ""
    fresh += f" and {more} more (status.json has all)" if more > 0 else ""
    which = f" (the first of its {record['members']} models)" if record["members"] > 1 else ""
    taken = f"{record['taken']} of {record['of']} tensors{fresh}"
    tell(f"warm start from {record['from']}{which}: {taken}")
    return {"warmstart": record}


def ready_data(
    config: TrainConfig, data: AttnSegDataModule, before: TrainedPatients, *, resumed: bool
) -> tuple[dict[str, Any], TrainedPatients, dict[str, Any]]:
    """Decode the cases and check them.

    Args:
        config: of the run, identified.
        data: what it trains on.
        before: the patients that trained the weights which it begins with.
        resumed: whether those are of this run itself.

    Returns:
        The data's record; the patients that its weights were trained on from now on; what
        status.json records of validation cases that trained the first weights.

    Raises:
        DataError: they cannot be trained on.
    """
    for warning in shortened(data.refuse_similar_patients()):
        note(warning)
    data.prepare_data()
    data.setup("fit")
    data.refuse_shared_pictures()
    described = as_recorded(config, {**data.record, "digest": config.data_digest})
    trained = trained_patients(config, data, before, resumed=resumed)
    began = validated_on_known(data, before)
    _refuse_lesionless(described)
    note(unused_split_column(data.all_cases, config.data.split))
    return described, trained, began


def _refuse_lesionless(record: dict[str, Any]) -> None:
    """Refuse to train where there is nothing to learn from; say where nothing can be measured."""
    splits = record["splits"]
    if not splits["train"]["positives"]:
        raise DataError(
            f"none of the {splits['train']['cases']} training cases has a lesion: nothing can be "
            "learned; add positive cases, or divide them otherwise (data.split)"
        )
    if not splits["val"]["cases"]:
        note(
            "no case is left to validate on (data.split); nothing is measured, the threshold "
            "stays 0.5, and last.ckpt is the result"
        )
    elif not splits["val"]["positives"]:
        note(
            f"none of the {splits['val']['cases']} validation cases has a lesion; what needs "
            "one is not measured, and best.ckpt is the newest"
        )
