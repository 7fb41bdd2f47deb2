"""What a run's module and callbacks tell each other, and what its checkpoints say of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from attnseg.common.finite import all_finite
from attnseg.nn.output import DualPathwayOutput
from attnseg.runs.code import Code
from attnseg.runs.patients import KEY as PATIENTS
from attnseg.runs.patients import TrainedPatients

Batch = dict[str, Any]


@dataclass(frozen=True)
class StepRecord:
    """What callbacks may want to know of one step."""

    terms: Mapping[str, Tensor]  # scalars, detached
    output: DualPathwayOutput  # (B, 1, H, W) each, detached
    batch: Batch

    @cached_property
    def finite(self) -> bool:
        """Whether all terms and maps are numbers."""
        return all_finite(*self.tensors)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What a metric or the ledger is made of."""
        maps = (self.output.mask_logits, self.output.attention, self.batch["mask"])
        return (*self.terms.values(), *maps)


@dataclass
class TrainingRecord:
    """The step and the epoch that are under way.

    Attributes:
        values: of this epoch, by the names of the ledger (`val/dice_positive`, `lr/head`);
            callbacks add to it, and the ledger writes what is there when the epoch ends.
        last_step: of training or validation; None before the first.
    """

    values: dict[str, float] = field(default_factory=dict)
    last_step: StepRecord | None = None

    @property
    def step(self) -> StepRecord:
        """The last step, which there was."""
        assert self.last_step is not None, "no step was made yet"
        return self.last_step


def record_of(module: Any) -> TrainingRecord:
    """The record of an `AttnSegModule`, which Lightning hands to callbacks as any module."""
    record = module.record
    assert isinstance(record, TrainingRecord)
    return record


@dataclass(frozen=True)
class MadeOf:
    """What every checkpoint of a run says it was made of.

    Attributes:
        data: `AttnSegDataModule.record` with the digest, in plain types.
        trained: patients that its weights were ever trained on, by the runs it began from, too.
        code: of `attnseg.runs.code.code_of`; empty where it is not known.
        machine: processes, threads and processor, of `attnseg.training.machine.machine_of`.
    """

    data: dict[str, Any] = field(default_factory=dict)
    trained: TrainedPatients = field(default_factory=TrainedPatients)
    code: Code = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def computed_by(self) -> dict[str, Any]:
        """Code and machine, for status.json."""
        return ({"code": self.code} if self.code else {}) | self.machine

    def entries(self) -> dict[str, Any]:
        """All of it, in plain types."""
        return {"data": self.data, PATIENTS: self.trained.record(), **self.computed_by}
