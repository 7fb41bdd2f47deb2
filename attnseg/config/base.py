"""What every section shares: strictness, and the field types that several use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]
Channels = Annotated[list[Positive], Field(min_length=2, max_length=5)]  # stride 32 at most
WeightName = Literal["segmentation", "attention", "alignment"]
GroupName = Literal["attention", "head", "backbone"]
Norm = Literal["group", "batch", "instance"]


class Section(BaseModel):
    """A strict, immutable part of the configuration: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)
