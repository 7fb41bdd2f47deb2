"""What every section shares: strictness, and the field types that several use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]
Channels = Annotated[list[Positive], Field(min_length=2, max_length=5)]  # stride 32 at most


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _dotted(names: list[str]) -> list[str]:
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"'{name}' is no package; give names such as [mylab,mylab.networks]")
    return names


# Packages whose classes a file may name (attnseg.config.trust). Never written to a file: it would
# be a grant that whoever changes the file could give.
Trust = Annotated[
    list[str], BeforeValidator(_one_or_more), AfterValidator(_dotted), Field(exclude=True)
]


class Section(BaseModel):
    """A strict, immutable part of the configuration: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    # Of what came from the environment: by place its interpolation, and what that gave.
    _interpolations: dict[tuple[str | int, ...], tuple[str, Any]] = PrivateAttr(default={})

    @classmethod
    def further_keys(cls) -> Mapping[str, str]:
        """Keys that it takes beside its fields, each with what it is."""
        return {}

    @property
    def interpolations(self) -> dict[tuple[str | int, ...], tuple[str, Any]]:
        """What `validate` was told of interpolations that read the environment."""
        return self._interpolations
