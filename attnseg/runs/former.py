"""How configurations were written before components owned their options.

Then every attention, encoder and curve had the keys of all of its kind, used or not. Ids of
versions 1 and 2 are made of that form, and run folders of that time hold it, so configurations are
compared in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ATTENTION: dict[str, dict[str, Any]] = {  # what conf/attention/*.yaml said of what is not used
    "none": {
        "hidden_channels": 32,
        "blocks": 2,
        "stride": 4,
        "temperature": 1.0,
        "learned_temperature": False,
        "dropout": 0.0,
    },
    "drr": {"blocks": 2},
    "supervised": {"temperature": 1.0, "learned_temperature": False},
}
_ENCODER: dict[str, Any] = {"blocks": 1, "norm": "group", "weights": None}
_CHANNELS = {"resnet": [16, 32, 64, 96, 128], "efficientnet": [8, 32, 64, 96, 128]}
_CURVE: dict[str, Any] = {"end": None, "steps": 2}
_RATES: dict[str, Any] = {"power": 0.9, "milestones": [0.6, 0.85], "factor": 0.1}


def in_former_keys(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the keys that it had then; what is not ours is left as it is."""
    changed = dict(plain)
    for key, change in (
        ("attention", _attention),
        ("model", _model),
        ("loss", _loss),
        ("schedule", _schedule),
        ("optim", _optim),
    ):
        if isinstance(changed.get(key), Mapping):
            changed[key] = change(changed[key])
    return changed


def _attention(section: Mapping[str, Any]) -> dict[str, Any]:
    return {**_ATTENTION.get(str(section.get("name")), {}), **section}


def _model(section: Mapping[str, Any]) -> dict[str, Any]:
    encoders = {
        key: _encoder(section[key])
        for key in ("encoder", "drr_encoder")
        if isinstance(section.get(key), Mapping)
    }
    return {**section, **encoders}


def _encoder(section: Mapping[str, Any]) -> dict[str, Any]:
    if "name" not in section:
        return dict(section)
    family = str(section["name"]).partition("_")[0].rstrip("0123456789")
    channels = {"channels": _CHANNELS[family]} if family in _CHANNELS else {}
    return {**_ENCODER, **channels, **section}


def _loss(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "terms" or value}


def _optim(section: Mapping[str, Any]) -> dict[str, Any]:
    rates = section.get("lr_schedule")
    if not (isinstance(rates, Mapping) and "kind" in rates):
        return dict(section)
    return {**section, "lr_schedule": {**_RATES, **rates}}


def _schedule(section: Mapping[str, Any]) -> dict[str, Any]:
    phases = section.get("phases")
    if not isinstance(phases, Mapping):
        return dict(section)
    return {**section, "phases": {name: _phase(phase) for name, phase in phases.items()}}


def _phase(section: Any) -> Any:
    weights = section.get("weights") if isinstance(section, Mapping) else None
    if not isinstance(weights, Mapping):
        return section
    former = {
        name: {**_CURVE, **curve} if isinstance(curve, Mapping) and "curve" in curve else curve
        for name, curve in weights.items()
    }
    return {**section, "weights": former}
