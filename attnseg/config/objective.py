"""Losses, and the schedule that weights them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, get_args

from pydantic import Field, PlainValidator, SerializeAsAny, model_validator

from attnseg.component import GroupName, WeightName
from attnseg.config.base import NonNegative, Positive, Section
from attnseg.config.component import TARGET, Component, component, slot


class LossConfig(Section):
    """The combined loss: named terms, weighted by the schedule."""

    segmentation: Annotated[SerializeAsAny[Component], slot("segmentation_loss")] = Field(
        default_factory=lambda: component("segmentation_loss", {})
    )
    attention: Annotated[SerializeAsAny[Component], slot("attention_loss")] = Field(
        default_factory=lambda: component("attention_loss", {})
    )
    alignment: Annotated[SerializeAsAny[Component], slot("alignment_loss")] = Field(
        default_factory=lambda: component("alignment_loss", {})
    )
    terms: dict[str, Annotated[SerializeAsAny[Component], slot("loss_term")]] = {}

    @model_validator(mode="after")
    def _names_are_free(self) -> LossConfig:
        for name in self.terms:
            if name in get_args(WeightName) or not name.isidentifier():
                raise ValueError(f"terms.{name}: choose another name, of letters, digits and _")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that a schedule can weigh."""
        return (*get_args(WeightName), *self.terms)


def _curve(kind: str, value: object) -> Component:
    """A number is a constant; without a `curve` it is linear where there is an `end`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = {"curve": "constant", "start": float(value)}
    elif isinstance(value, Mapping) and not {"curve", TARGET} & set(value):
        value = {"curve": "constant" if value.get("end") is None else "linear", **value}
    return component(kind, value)


Curve = Annotated[SerializeAsAny[Component], PlainValidator(partial(_curve, "curve"))]


def ends_of(curve: Component) -> tuple[float, float] | None:
    """The values that one of our curves runs between; None of anybody else's."""
    if not curve.registered:
        return None
    start = float(curve.start)
    return start, start if curve.signature.constants.get("ends_where_it_starts") else curve.end


class PhaseConfig(Section):
    """Some consecutive epochs with their loss weights, rates and frozen parts."""

    epochs: Positive
    weights: dict[str, Curve] = {}  # a weight that is not named is 0 (segmentation: 1)
    lr_factors: dict[GroupName, NonNegative] = {}  # a group that is not named has 1
    frozen: list[GroupName] = []

    @model_validator(mode="after")
    def _something_to_learn(self) -> PhaseConfig:
        ends = [ends_of(curve) for curve in self.weights.values()]
        known = [pair for pair in ends if pair is not None]
        silent = len(known) == len(ends) and not all(map(any, zip(*known, strict=True)))
        if "segmentation" in self.weights and silent:
            raise ValueError("every loss weight is 0 at the first or last epoch: nothing to learn")
        if set(self.frozen) == set(get_args(GroupName)):
            raise ValueError("every part is frozen: nothing left to train")
        return self


class ScheduleConfig(Section):
    """Phases in order; `total_epochs` stretches or shrinks them all in proportion."""

    name: str
    phases: Annotated[dict[str, PhaseConfig], Field(min_length=1)]
    total_epochs: Positive | None = None  # null: the sum of the phases
    adaptive: Annotated[SerializeAsAny[Component], slot("weighting")] | None = (
        None  # learned multipliers of the weights above
    )

    @model_validator(mode="after")
    def _room_for_every_phase(self) -> ScheduleConfig:
        if self.total_epochs is not None and self.total_epochs < len(self.phases):
            raise ValueError(
                f"total_epochs={self.total_epochs} is fewer than the {len(self.phases)} phases"
            )
        return self
