"""Whose patients trained the weights that a run begins or goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attnseg.common.console import tell
from attnseg.config import TrainConfig
from attnseg.config.trust import trust_of
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.runs.archive import KEY
from attnseg.runs.checkpoints import load_checkpoints, patients_of, read_records
from attnseg.runs.patients import TrainedPatients
from attnseg.training.origin import Parent

_SHOWN = 5  # cases that a note names
_WEIGHTS = (".ckpt", ".pt", ".pth", ".safetensors")


def inherited(config: TrainConfig, start: Path | None, parent: Parent | None) -> TrainedPatients:
    """The patients that ever trained the weights which this run begins or goes on with.

    Args:
        config: of the run.
        start: the checkpoint that is resumed; None for a fresh start.
        parent: what is forked.

    Raises:
        CheckpointError: what a checkpoint notes of them cannot be read.
    """
    if start is not None:
        return _of_file(start)
    if parent is not None:
        return patients_of(parent.path, parent.content[KEY])
    found = _of_weights(config.model.model_dump(mode="json"))
    if config.warmstart is not None:
        found = found.union(
            load_checkpoints(config.warmstart, "warmstart", trust=trust_of(config))[0].trained
        )
    return found


def trained_patients(
    config: TrainConfig, data: AttnSegDataModule, before: TrainedPatients, *, resumed: bool
) -> TrainedPatients:
    """The patients that the run's weights are trained on, before and now.

    Args:
        config: of the run; `keep_ids` decides whether plain ids are kept.
        data: what it trains on.
        before: from `inherited`.
        resumed: `before` is of this run itself, which keeps its salt.
    """
    ids, keep = data.train_patients, config.keep_ids
    known = before if keep else before.hashed()
    if resumed:
        return known.plus(ids, keep_ids=keep)
    return TrainedPatients.of(ids, keep_ids=keep).union(known)


def validated_on_known(data: AttnSegDataModule, before: TrainedPatients) -> dict[str, Any]:
    """Say which cases to validate on the weights have been trained on; for status.json, counts."""
    cases = data.splits.val
    known = [case for case in cases if case.patient_id in before]
    if not known:
        return {}
    names = ", ".join(case.case_id for case in known[:_SHOWN])
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    tell(
        f"note: {len(known)} of {len(cases)} validation cases are of patients that trained the "
        f"weights it begins with ({names}{more}): best.ckpt and the threshold will be chosen on "
        "them, and figures on them are too good"
    )
    patients = len({case.patient_id for case in known})
    counts = {"cases": len(known), "of": len(cases), "patients": patients}
    return {"validated_on_trained": counts}


def _of_weights(section: Any) -> TrainedPatients:
    """The patients of every checkpoint of ours that a model's section names, at any depth.

    Of files that others made (ImageNet's weights, TorchXRayVision's) nothing is known.
    """
    if isinstance(section, dict):
        section = list(section.values())
    if isinstance(section, list):
        return TrainedPatients().union(*map(_of_weights, section))
    path = Path(section) if isinstance(section, str) else Path()
    return _of_file(path) if path.suffix in _WEIGHTS and path.is_file() else TrainedPatients()


def _of_file(path: Path) -> TrainedPatients:
    return TrainedPatients().union(*(patients_of(path, one) for one in read_records(path)))
