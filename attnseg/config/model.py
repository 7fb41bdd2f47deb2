"""Models and attention mechanisms: components, whose options stand with their classes."""

from __future__ import annotations

from typing import Annotated

from pydantic import SerializeAsAny

from attnseg.config.component import Component, slot

AnyModel = Annotated[SerializeAsAny[Component], slot("model")]
AnyAttention = Annotated[SerializeAsAny[Component], slot("attention")]
