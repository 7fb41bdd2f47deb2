"""What defines a run, and the ids made of it.

A run has an id of every version of what ids are made of. A folder records all of them, and is the
run of a command if the newest that both have is equal.
1: the configuration. 2: the configuration and the data's content, wherever the data lie.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from attnseg.common.credentials import redacted_tree
from attnseg.config import TrainConfig
from attnseg.runs.former import in_former_keys

# Where a run computes, shows and stores things does not define it; everything else does.
_FREE: dict[str, tuple[str, ...] | None] = {
    "run": None,
    "resume": None,
    "resume_code": None,
    "fork": None,  # a path; what it led to is in `origin`
    "warmstart": None,
    "keep_ids": None,
    "trust": None,
    "data_digest": None,  # what the data are; in ids from version 2 on
    "logger": None,
    "launcher": None,
    "sweep": None,
    "data": ("root", "cache_dir", "num_workers", "eval_batch_size", "scans_csv", "table"),
    "callbacks": ("overlays", "train_metrics_every_n_steps"),
    "optim": ("fused",),
    "trainer": (
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "num_threads",
        "reuse_memory",
        "progress_bar",
        "deterministic",
        "benchmark",
        "compile",
        "channels_last",
        "max_epochs",
        "max_steps",
        "max_time",
        "profiler",
        "detect_anomaly",
        "enable_model_summary",
        "inference_mode",
    ),
}

# Keys that came when there were runs already. With this value a run is what it was without the
# key, which ids leave out then, so that a newer attnseg finds and resumes the runs of an older one.
_CAME_LATER: dict[str, Any] = {
    "data.augment.on_device": False,
    "data.augment.transforms": [],
    "data.split.train_fraction": 1.0,
    "data.synthetic.axis_ratio": [0.7, 1.0],
    "data.synthetic.blur_px": None,
    "data.synthetic.bright_contrast": 1.0,
    "data.synthetic.margin_px": [0.0, 0.0],
    "data.synthetic.power": [0.5, 0.5],
    "loss.segmentation.blob": 0.0,
    "loss.segmentation.boundary": 0.0,
    "loss.segmentation.blob_kind": "dice",
    "model.deep_supervision": 0,
    "weights_digest": None,
}

# The same for ids of version 3: keys that came after them, and whose neutral value is not null.
_LATER_THAN_3: dict[str, Any] = {}

# Files of initial weights: ids from version 2 on have their content, not their paths.
_WEIGHTS = ("model.weights", "model.encoder.weights", "model.drr_encoder.weights")


def defining_part(config: TrainConfig) -> dict[str, Any]:
    """The part of a configuration that decides the numbers, as plain containers."""
    return defining_keys(config.model_dump(mode="json"))


def defining_keys(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a config.yaml as it was read, which may lack sections, and keys of today."""
    kept: dict[str, Any] = redacted_tree(without_free(plain))  # a new password is no new run
    if not kept:
        return kept  # of a job that never wrote any
    return _with_later_keys(
        in_former_keys(kept), lambda section, key, value: {key: value, **section}
    )


def is_free(place: Sequence[str | int]) -> bool:
    """Whether the key at a place (`("data", "root")`) does not define a run."""
    keys = _FREE.get(str(place[0]), ())
    return keys is None or str(place[1]) in keys if len(place) > 1 else keys is None


def without_free(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A config.yaml without what says where the run computes, shows and stores things."""
    kept = {name: value for name, value in plain.items() if _FREE.get(name, ()) is not None}
    for section, keys in _FREE.items():
        if keys is not None and isinstance(kept.get(section), Mapping):
            kept[section] = {k: v for k, v in kept[section].items() if k not in keys}
    if isinstance(metrics := kept.pop("metrics", None), Mapping):
        watched = {name: value for name, value in metrics.items() if _is_watched(name, plain)}
        kept |= {"metrics": watched} if watched else {}
    return kept


def _is_watched(metric: str, plain: Mapping[str, Any]) -> bool:
    """Whether a metric of `metrics` decides which weights are kept, or when training ends."""
    callbacks = plain.get("callbacks")
    sections = callbacks.values() if isinstance(callbacks, Mapping) else ()
    monitors = [
        str(section.get("monitor"))
        for section in sections
        if isinstance(section, Mapping) and section.get("enabled", True)
    ]
    return any(name == f"val/{metric}" or name.startswith(f"val/{metric}_") for name in monitors)


def id_part(config: TrainConfig) -> dict[str, Any]:
    """What ids are made of: the defining part without what came later and changes nothing."""
    return _without_neutral(defining_part(config), _CAME_LATER)


def _without_neutral(plain: dict[str, Any], neutral: Mapping[str, Any]) -> dict[str, Any]:
    return _with_later_keys(
        plain,
        lambda section, key, value: {k: v for k, v in section.items() if k != key or v != value},
        neutral,
    )


_Change = Callable[[Mapping[str, Any], str, Any], dict[str, Any]]


def _with_later_keys(
    plain: dict[str, Any], change: _Change, keys: Mapping[str, Any] = MappingProxyType(_CAME_LATER)
) -> dict[str, Any]:
    """A copy in which the section of each key that came later is changed, where it is there."""
    for dotted, neutral in keys.items():
        plain = _changed(plain, dotted.split("."), neutral, change)
    return plain


def _changed(
    plain: Mapping[str, Any], path: Sequence[str], neutral: Any, change: _Change
) -> dict[str, Any]:
    first, *rest = path
    if not rest:
        return change(plain, first, neutral)
    inner = plain.get(first)
    if not isinstance(inner, Mapping):
        return dict(plain)
    return {**plain, first: _changed(inner, rest, neutral, change)}


def run_ids(config: TrainConfig) -> dict[str, str]:
    """The run's id of each version, eight hex digits; that of version 2 where the data are known.

    A split file's path is in version 1 alone: how it divides is part of the data's content.
    Versions 1 and 2 are made of the keys of that time, version 3 of what each component has; a
    key that is null or empty says nothing in it, so that one that comes later changes no id.
    """
    first = {key: value for key, value in id_part(config).items() if key != "weights_digest"}
    ids = {"1": _hash(first)}
    if config.data_digest is not None:
        run = _by_content(config)
        ids["2"] = _hash({"version": 2, "run": run, "data_digest": config.data_digest})
        run = _without_places(redacted_tree(without_free(config.model_dump(mode="json"))), config)
        said = _what_is_said(_without_neutral(run, _LATER_THAN_3))
        ids["3"] = _hash({"version": 3, "run": said, "data_digest": config.data_digest})
    return ids


def identity_record(config: TrainConfig) -> dict[str, Any]:
    """What a status.json keeps: `id` and `ids`, and `configuration`, that of any data."""
    ids = run_ids(config)
    return {"id": newest(ids), "ids": ids, "configuration": _hash(_by_content(config))}


def _by_content(config: TrainConfig) -> dict[str, Any]:
    """The part that ids of version 2 are made of."""
    return _without_places(id_part(config), config)


def _what_is_said(value: Any) -> Any:
    """Without keys that are null or empty, at any depth.

    Not of a class that is not ours: there, null is another argument than none, whose default holds.
    """
    if isinstance(value, Mapping) and "_target_" in value:
        return value
    if isinstance(value, Mapping):
        inner = {key: _what_is_said(each) for key, each in value.items()}
        return {key: each for key, each in inner.items() if each not in (None, {}, [])}
    return [_what_is_said(each) for each in value] if isinstance(value, list) else value


def _without_places(part: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Without the paths of files whose content is known otherwise."""
    split = {key: value for key, value in part["data"]["split"].items() if key != "file"}
    part = {**part, "data": {**part["data"], "split": split}}
    for dotted in weight_files(config) if config.weights_digest is not None else ():
        part = _changed(
            part, dotted.split("."), None, lambda node, key, value: {**node, key: value}
        )
    return part


def weight_files(config: TrainConfig) -> dict[str, str]:
    """The keys of initial weights that name a file, and what they name (`imagenet` is no file)."""
    found = {}
    for dotted in _WEIGHTS:
        node: Any = config
        for key in dotted.split("."):
            node = getattr(node, key, None)
        if isinstance(node, str) and node != "imagenet":
            found[dotted] = node
    return found


def run_identity(config: TrainConfig) -> str:
    """The run's id of the newest version; the same run has the same identity."""
    return newest(run_ids(config))


def newest(ids: Mapping[str, str]) -> str:
    """The id that a run is called by."""
    return list(ids.values())[-1]


def recorded_ids(record: Mapping[str, Any]) -> dict[str, str]:
    """The ids that a status.json or a checkpoint's record holds; old ones hold one alone."""
    ids = record.get("ids")
    if isinstance(ids, Mapping):
        return {str(version): str(value) for version, value in ids.items()}
    value = record.get("id") or record.get("identity")
    return {"1": str(value)} if value else {}


def same_run(theirs: Mapping[str, str], ours: Mapping[str, str]) -> bool:
    """Whether the newest id that both have is equal."""
    shared = [version for version in ours if version in theirs]
    return bool(shared) and theirs[shared[-1]] == ours[shared[-1]]


def content_unknown(theirs: Mapping[str, str]) -> bool:
    """Whether a run was recorded before data were recorded by content."""
    return bool(theirs) and "2" not in theirs


def without_places(lines: list[str], theirs: Mapping[str, str]) -> list[str]:
    """Differences of configurations without what only says where data lie, if the ids ask for
    the data themselves."""
    return [ln for ln in lines if content_unknown(theirs) or not ln.startswith("data.split.file:")]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def run_name(config: TrainConfig) -> str:
    """The readable name: given, or made of what users vary most."""
    if config.run.name:
        return config.run.name
    parts = [config.data.name, config.model.name, config.attention.name, config.schedule.name]
    return "-".join([*parts, f"s{config.seed}"])


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Key by key, where two plain configurations differ: `key: theirs -> ours`."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        lines = []
        for key in sorted({*ours, *theirs}):
            dotted = f"{path}.{key}" if path else str(key)
            lines += differences(ours.get(key), theirs.get(key), dotted)
        return lines
    return [] if ours == theirs else [f"{path}: {theirs!r} -> {ours!r}"]
