"""Losses, and the schedule that weights them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from attnseg.config.base import Fraction, GroupName, NonNegative, Positive, Section, WeightName


class SegmentationLossConfig(Section):
    """Weights of the segmentation terms; a zero weight leaves the term out."""

    bce: NonNegative = 1.0
    dice: NonNegative = 1.0
    focal: NonNegative = 1.0
    tversky: NonNegative = 0.0
    focal_tversky: NonNegative = 0.0
    blob: NonNegative = 0.0
    boundary: NonNegative = 0.0
    bce_pos_weight: Annotated[float, Field(gt=0.0)] = 1.0
    focal_gamma: NonNegative = 2.0
    focal_alpha: Fraction | None = 0.75
    tversky_alpha: Fraction = 0.3  # weight of false positives
    tversky_beta: Fraction = 0.7  # weight of false negatives
    tversky_gamma: Annotated[float, Field(ge=1.0)] = 1.33  # focal_tversky: (1 - index)^(1 / gamma)
    blob_kind: Literal["dice", "tversky"] = "dice"  # the overlap of each lesion

    @model_validator(mode="after")
    def _something_to_learn(self) -> SegmentationLossConfig:
        overlaps = (self.dice, self.tversky, self.focal_tversky, self.blob)
        if not any((self.bce, self.focal, self.boundary, *overlaps)):
            raise ValueError("every term weighs 0: nothing would teach the segmentation")
        if self.tversky_alpha + self.tversky_beta == 0:
            raise ValueError("tversky_alpha and tversky_beta are both 0: no error would count")
        return self


class AttentionLossConfig(Section):
    """Weights of the terms that supervise attention by the mask; zero leaves the term out."""

    bce: NonNegative = 1.0
    focal: NonNegative = 1.0
    dice: NonNegative = 0.0  # on the map that fusion uses; the others are on its logits
    bce_pos_weight: Annotated[float, Field(gt=0.0)] = 1.0
    focal_gamma: NonNegative = 2.0
    focal_alpha: Fraction | None = 0.75

    @model_validator(mode="after")
    def _something_to_learn(self) -> AttentionLossConfig:
        if not any((self.bce, self.focal, self.dice)):
            raise ValueError("every term weighs 0; to train without supervision: schedule=none")
        return self


class AlignmentLossConfig(Section):
    """Agreement of the attention map with the predicted mask."""

    kind: Literal["pearson", "dice", "mse"] = "pearson"
    detach: Literal["none", "attention", "segmentation"] = "none"  # the map that is not moved


class LossConfig(Section):
    """The combined loss: named terms, weighted by the schedule."""

    segmentation: SegmentationLossConfig = SegmentationLossConfig()
    attention: AttentionLossConfig = AttentionLossConfig()
    alignment: AlignmentLossConfig = AlignmentLossConfig()


class CurveConfig(Section):
    """A loss weight over the epochs of one phase, `start` at its first and `end` at its last.

    Without a `curve` it is linear where there is an `end`, else constant. A constant and the
    original's decay take no notice of `end`, so that a sweep over `curve` alone is possible.
    """

    curve: Literal["constant", "linear", "cosine", "exponential", "step", "original"]
    start: NonNegative
    end: NonNegative | None = None
    steps: Annotated[int, Field(ge=2)] = 2  # step: stairs of equal length, the first at `start`

    @property
    def last(self) -> float:
        """The value that the curve runs to (the original's decay: where it started)."""
        return self.start if self.end is None or self.curve in _ENDLESS else self.end

    @model_validator(mode="before")
    @classmethod
    def _default_curve(cls, value: object) -> object:
        if isinstance(value, Mapping) and "curve" not in value:
            return {**value, "curve": "constant" if value.get("end") is None else "linear"}
        return value

    @model_validator(mode="after")
    def _end_where_it_has_a_meaning(self) -> CurveConfig:
        if self.curve not in _ENDLESS and self.end is None:
            raise ValueError(f"a curve that is {self.curve} needs an end")
        if self.curve == "exponential" and (self.start == 0 or self.end == 0):
            raise ValueError("an exponential curve needs start and end above 0")
        return self


_ENDLESS = ("constant", "original")


def _curve_from_number(value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"curve": "constant", "start": float(value)}
    return value


Curve = Annotated[CurveConfig, BeforeValidator(_curve_from_number)]


class PhaseConfig(Section):
    """Some consecutive epochs with their loss weights, rates and frozen parts."""

    epochs: Positive
    weights: dict[WeightName, Curve] = {}  # a weight that is not named is 0 (segmentation: 1)
    lr_factors: dict[GroupName, NonNegative] = {}  # a group that is not named has 1
    frozen: list[GroupName] = []

    @model_validator(mode="after")
    def _something_to_learn(self) -> PhaseConfig:
        firsts = [curve.start for curve in self.weights.values()]
        lasts = [curve.last for curve in self.weights.values()]
        if "segmentation" in self.weights and not (any(firsts) and any(lasts)):
            raise ValueError("every loss weight is 0 at the first or last epoch: nothing to learn")
        if set(self.frozen) == set(get_args(GroupName)):
            raise ValueError("every part is frozen: nothing left to train")
        return self


class UncertaintyConfig(Section):
    """Homoscedastic uncertainty (Kendall 2018): learned with the network, at its rate."""

    name: Literal["uncertainty"]


class DwaConfig(Section):
    """Dynamic weight average (Liu 2019): by how fast each term fell over the last two epochs."""

    name: Literal["dwa"]
    temperature: Annotated[float, Field(gt=0.0)] = 2.0  # higher: more equal weights


class GradNormConfig(Section):
    """GradNorm (Chen 2018): equal gradient norms, moved towards the terms that learn slowly."""

    name: Literal["gradnorm"]
    alpha: NonNegative = 1.5  # restoring force
    lr: Annotated[float, Field(gt=0.0)] = 0.025  # rate of the weights' own descent


AdaptiveConfig = Annotated[
    UncertaintyConfig | DwaConfig | GradNormConfig, Field(discriminator="name")
]


class ScheduleConfig(Section):
    """Phases in order; `total_epochs` stretches or shrinks them all in proportion."""

    name: str
    phases: Annotated[dict[str, PhaseConfig], Field(min_length=1)]
    total_epochs: Positive | None = None  # null: the sum of the phases
    adaptive: AdaptiveConfig | None = None  # learned multipliers of the weights above

    @model_validator(mode="after")
    def _room_for_every_phase(self) -> ScheduleConfig:
        if self.total_epochs is not None and self.total_epochs < len(self.phases):
            raise ValueError(
                f"total_epochs={self.total_epochs} is fewer than the {len(self.phases)} phases"
            )
        return self
