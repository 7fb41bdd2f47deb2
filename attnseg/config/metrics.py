"""Metrics that a configuration adds to those that are always measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, PlainValidator, SerializeAsAny

from attnseg.config.component import TARGET, Component, component
from attnseg.config.measures import own_measures


def _metric(given: object) -> Component:
    if isinstance(given, Mapping) and given.get(TARGET) is None:
        raise ValueError(
            f"needs a {TARGET}, the dotted name of a torchmetrics.Metric, such as "
            "torchmetrics.classification.BinaryAUROC"
        )
    return component("metric", given)


def _free_names(metrics: dict[str, Component]) -> dict[str, Component]:
    for name in metrics:
        if not name.isidentifier() or name == "loss" or name in own_measures():
            raise ValueError(f"{name}: choose another name, of letters, digits and _")
    return metrics


Metrics = Annotated[
    dict[str, Annotated[SerializeAsAny[Component], PlainValidator(_metric)]],
    AfterValidator(_free_names),
]
"""By the name that their values have: `val/<name>`, or `val/<name>_<key>` of several."""
