"""What a file may name: classes of trusted packages, with plain values as arguments.

A checkpoint's configuration says which network its weights belong to. What the
person at the keyboard names is free; what a file names passes this gate before anything of it is
imported or called. It opens for attnseg's own classes and MONAI's networks; `trust=[mylab]` opens
it for a package (or module) of one's own, and so does a trusted project (attnseg.common.project).
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from attnseg.common.errors import CheckpointError
from attnseg.common.hidden import without_mlflow
from attnseg.common.project import active_packages

if TYPE_CHECKING:
    from attnseg.config import TrainConfig
    from attnseg.config.component import Component

TRUSTED = ("attnseg", "monai.networks")
"""Always trusted. Of MONAI the networks alone: its losses, for one, load code by torch.hub, and
its bundles run what their files say."""

_METRICS = ("torchmetrics.classification", "torchmetrics.segmentation")
"""Trusted as metrics. Others of torchmetrics load networks by a name or path that is given them."""

_NO_NETWORKS = {
    *sys.stdlib_module_names,
    "hydra",
    "numpy",
    "omegaconf",
    "pydantic",
    "torch",
    "yaml",
}
_RESERVED = re.compile(r"_\w+_")  # _target_, _partial_, _args_, ...: instructions, no arguments


def refuse_untrusted(config: object, trust: Sequence[str], place: object) -> None:
    """Refuse a configuration that a file brought if rebuilding its model could run other code.

    Args:
        config: as it was read, in plain containers.
        trust: packages or modules (dotted) that are trusted beside `TRUSTED`.
        place: the file, for the message.

    Raises:
        CheckpointError: it holds more than plain values, or names something other than a torch
            module's class of a trusted package.
    """
    try:
        what = _not_plain(config)
    except RecursionError:
        what = "too many containers inside each other"
    if what is not None:
        raise CheckpointError(f"{place}: refused, its configuration holds {what}")
    for path, node in _named(config):
        from torch import nn

        trusted_class(node.get("_target_"), nn.Module, trust, f"{place}: its {path}")
        inner = [v for k, v in node.items() if k != "_target_" and f"{path}.{k}" not in _SLOTS]
        extra = {key: 0 for key in node if key != "_target_"}
        if (key := _reserved([extra, *inner])) is not None:
            raise CheckpointError(
                f"{place}: refused, its {path} has '{key}' among the arguments, which a file may "
                "give plain values only"
            )


def refuse_untrusted_parts(
    config: object, trust: Sequence[str], place: object, path: str = ""
) -> None:
    """Refuse a configuration that a file brought if any part of it is of a package not trusted.

    `refuse_untrusted` looks at the model alone, which is all that commands build of a file.

    Raises:
        CheckpointError: names the part and its class.
    """
    if isinstance(config, Mapping):
        if "_target_" in config:
            trusted_class(
                config["_target_"], object, (*trust, "torch.optim"), f"{place}: its {path}"
            )
        for key, value in config.items():
            refuse_untrusted_parts(value, trust, place, f"{path}.{key}" if path else str(key))
    elif isinstance(config, (list, tuple)):
        for value in config:
            refuse_untrusted_parts(value, trust, place, path)


def refuse_untrusted_source(data: Mapping[str, Any], trust: Sequence[str], place: object) -> None:
    """Refuse a data section that a file brought if its source is of another's package.

    Args:
        data: as it was read, in plain containers.
        trust: packages or modules that are trusted beside `TRUSTED`.
        place: the file, for the message.

    Raises:
        CheckpointError: it is of a package that is not trusted, or no source.
    """
    if "_target_" not in data:
        return
    found = trusted_class(data["_target_"], object, trust, f"{place}: its data")
    if not all(hasattr(found, name) for name in ("load", "content", "problems")):
        raise CheckpointError(f"{place}: refused, its data: {data['_target_']} is no source")
    options = [value for key, value in data.items() if key not in ("_target_", "augment")]
    extra = {key: 0 for key in data if key != "_target_"}
    if (key := _reserved([extra, *options])) is not None:
        raise CheckpointError(f"{place}: refused, its data has '{key}' among the options")


_SLOTS = (
    "model",
    "model.network",
    "model.encoder",
    "model.drr_encoder",
    "model.fusion",
    "attention",
)
"""Where a configuration names what is built of a checkpoint. What else it names (losses, curves)
is built of the keyboard's alone."""


def _named(config: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each part of a model that names a class, by its dotted key."""
    for path in _SLOTS:
        node: object = config
        for part in path.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping) and ("_target_" in node or path == "model.network"):
            yield path, node
        elif isinstance(node, Mapping) and (key := _reserved({**node, **_without_slots(node)})):
            yield f"{path}.{key}", {"_target_": None}


def _without_slots(node: Mapping[str, Any]) -> dict[str, None]:
    slots = {path.rpartition(".")[2] for path in _SLOTS}
    return {key: None for key in node if key in slots}


def trusted_class(target: object, base: type, trust: Sequence[str], place: str) -> type:
    """The class that a file names, imported only if its package is trusted.

    Nothing is called, and no attribute is looked up that could run code.

    Args:
        target: dotted name, package.module.Class.
        base: what it must subclass.
        trust: packages or modules that are trusted beside `TRUSTED`.
        place: the file and key, for the message.

    Raises:
        CheckpointError: not a dotted name, not of a trusted package (after following
            re-exports), not importable, or no subclass of `base`.
    """
    parts = target.split(".") if isinstance(target, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise CheckpointError(f"{place}: refused, {target!r} is no dotted name of a class")
    name = ".".join(parts)
    trust = (*TRUSTED, *trust, *active_packages())
    if not _within(name, trust):
        raise CheckpointError(f"{place}: refused, {name} {_not_trusted(name)}")
    own = parts[0] not in ("attnseg", "monai")
    module = _imported(".".join(parts[:-1]), place, all_places=own)
    found = vars(module).get(parts[-1])
    if not isinstance(found, type):
        what = "is not there" if found is None else f"is no class but a {type(found).__name__}"
        raise CheckpointError(f"{place}: refused, {name} {what}; a file may name classes only")
    home = f"{found.__module__}.{found.__name__}"
    if not _within(home, trust):
        raise CheckpointError(f"{place}: refused, {name} is {home}, which {_not_trusted(home)}")
    if not issubclass(found, base):
        raise CheckpointError(
            f"{place}: refused, {name} is no subclass of {base.__module__}.{base.__qualname__}"
        )
    return found


def refuse_untrusted_metric(metric: Component, trust: Sequence[str], place: str) -> None:
    """Refuse a metric that a checkpoint's configuration names if it could run other code.

    Raises:
        CheckpointError: no torchmetrics.Metric of a trusted package, or other than plain values as
            its arguments.
    """
    from torchmetrics import Metric

    trusted_class(metric.target, Metric, [*_METRICS, *trust], place)
    if (what := _not_plain(metric.options) or _reserved(metric.options)) is not None:
        raise CheckpointError(f"{place}: refused, its arguments hold {what}")


def trust_of(config: TrainConfig) -> list[str]:
    """What a training trusts: `trust`, and the packages that its own model's parts come from."""
    plain = config.model_dump(mode="json")
    targets = [node.get("_target_") for _, node in _named(plain)] + [plain["data"].get("_target_")]
    packages = [target.partition(".")[0] for target in targets if isinstance(target, str)]
    return list(dict.fromkeys([*config.trust, *packages]))


def note_on_network(config: TrainConfig) -> str | None:
    """What a run's user has to know before its checkpoints are evaluated; None: nothing."""
    plain = config.model_dump(mode="json")
    for trust in ((), trust_of(config)):
        try:
            refuse_untrusted(plain, trust, "checkpoint")
            refuse_untrusted_source(plain["data"], trust, "checkpoint")
        except CheckpointError as error:
            problem = str(error)
        else:
            packages = ",".join(trust)
            return (
                f"evaluate, predict and compare need trust=[{packages}] for it" if trust else None
            )
    return f"evaluate, predict and compare will refuse this run ({problem})"


def _not_plain(tree: object) -> str | None:
    """What of it is no plain value, in words; None where all of it is."""
    if isinstance(tree, Mapping):
        odd = next((key for key in tree if not isinstance(key, str)), None)
        return f"the key {odd!r}" if odd is not None else _first(map(_not_plain, tree.values()))
    if isinstance(tree, (list, tuple)):
        return _first(map(_not_plain, tree))
    plain = tree is None or isinstance(tree, (bool, int, float, str))
    return None if plain else f"a {type(tree).__name__}"


def _reserved(tree: object) -> str | None:
    """The first key, at any depth, that is an instruction of Hydra's."""
    if isinstance(tree, Mapping):
        own = next((key for key in tree if _RESERVED.fullmatch(key)), None)
        return own or _first(map(_reserved, tree.values()))
    return _first(map(_reserved, tree)) if isinstance(tree, (list, tuple)) else None


def _first(found: Iterator[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _not_trusted(name: str) -> str:
    """Why, and what to do about it where trusting makes sense."""
    reason = f"is not of a package that a file may name ({', '.join(TRUSTED)})"
    package = "torch.nn" if name.startswith("torch.nn.") else name.partition(".")[0]
    if package in _NO_NETWORKS:
        return f"{reason}, and no network either: do not use this file"
    return f"{reason}; if you know its code and trust it, add trust=[{package}]"


def _imported(module: str, place: str, *, all_places: bool) -> ModuleType:
    try:
        with without_mlflow(), _installed(all_places=all_places):
            return importlib.import_module(module)
    except Exception as error:  # whatever the package does
        raise CheckpointError(
            f"{place}: {module} cannot be imported ({type(error).__name__}: {error})"
        ) from None


@contextmanager
def _installed(*, all_places: bool) -> Iterator[None]:
    """Import what is installed, not what lies in the working directory under the same name.

    `python -m` puts the working directory first; whoever downloads a run folder and stands in it
    has not said that its code is trusted. PYTHONPATH stays as it is.
    """
    if all_places or not sys.path or sys.path[0] not in ("", str(Path.cwd())):
        yield
        return
    here = sys.path.pop(0)
    try:
        yield
    finally:
        sys.path.insert(0, here)
