"""Anybody's metrics, by the names that a configuration gives them.

    class Sharpness(torchmetrics.Metric):
        higher_is_better = True  # all three are optional
        unit = "per px"
        definition = "mean gradient of the probability at the mask's outline"

        def update(self, output, batch): ...

`update` is given, by name, what it asks for of `output`, `batch` (`attnseg.metrics.batch.Batch`),
`preds` and `target`; the last two, probability and mask (B, 1, H, W), are what torchmetrics' own
take. `compute` gives one number or a dict of numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from attnseg.common.errors import ConfigError, UserError
from attnseg.common.importing import place_of
from attnseg.common.processes import gather_from_ranks, place
from attnseg.metrics.batch import Batch

_GIVEN: dict[str, Callable[[Any, Batch], Any]] = {
    "output": lambda output, batch: output,
    "batch": lambda output, batch: batch,
    "preds": lambda output, batch: output.mask_logits.float().sigmoid(),
    "target": lambda output, batch: (batch.mask > 0.5).long(),
}


class NamedMetrics:
    """Metrics behind one `update` and one flat `compute`; there may be none.

    Args:
        metrics: by name.

    Raises:
        ConfigError: one is no metric, keeps no state, or asks for what it cannot be given.

    Example:
        >>> from types import SimpleNamespace
        >>> from torchmetrics.classification import BinaryAccuracy
        >>> metrics = NamedMetrics({"accuracy": BinaryAccuracy()})
        >>> maps = torch.ones(3, 1, 1, 8, 8)
        >>> batch = Batch(*maps, torch.ones(1, 2), ["case"], ["patient"])
        >>> metrics.update(SimpleNamespace(mask_logits=maps[0]), batch)
        >>> metrics.compute(())
        {'accuracy': 1.0}
    """

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self._metrics = dict(metrics)
        self._asked = {name: _asked(name, metric) for name, metric in metrics.items()}

    def record(self) -> dict[str, dict[str, Any]]:
        """What the metrics say of themselves, in plain types, by name."""
        return {name: _described(metric) for name, metric in self._metrics.items()}

    def to(self, device: torch.device | str) -> NamedMetrics:
        """Move the states there."""
        for metric in self._metrics.values():
            metric.to(device)
        return self

    def reset(self) -> None:
        """Forget everything."""
        for name, metric in self._metrics.items():
            with self._guarded(name):
                metric.reset()

    def update(self, output: Any, batch: Batch) -> None:
        """Add a batch.

        Args:
            output: with `mask_logits`, `attention_logits` and `attention`, each (B, 1, H, W).
            batch: of the same cases.

        Raises:
            ConfigError: a metric fails; the message has its file and line.
        """
        wanted = {argument for asked in self._asked.values() for argument in asked}
        given = {argument: _GIVEN[argument](output, batch) for argument in sorted(wanted)}
        for name, metric in self._metrics.items():
            with self._guarded(name):
                metric.update(**{argument: given[argument] for argument in self._asked[name]})

    def compute(self, taken: Collection[str]) -> dict[str, float]:
        """The values over all processes: `<name>`, or `<name>_<key>` of a dict; may be NaN.

        Args:
            taken: names that other values have already.

        Raises:
            ConfigError: a metric fails (the message has its file and line), gives no number, or
                one by a name that is taken.
        """
        if place()[1] > 1:
            _fill_empty(list(self._metrics.values()))
        values: dict[str, float] = {}
        for name, metric in self._metrics.items():
            with self._guarded(name):
                computed = metric.compute()
            parts = computed if isinstance(computed, Mapping) else {"": computed}
            for key, value in parts.items():
                full = f"{name}_{key}" if key else name
                if full in taken or full in values:
                    raise ConfigError(f"metrics.{name}: {full} is another value's name; choose one")
                values[full] = _number(name, value)
        return values

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            kind = type(self._metrics[name])
            where = place_of(error, inspect.getsourcefile(kind))
            told = f"metrics.{name}: {kind.__module__}.{kind.__qualname__} fails: {where}"
            raise ConfigError(told) from error


def _asked(name: str, metric: object) -> list[str]:
    """What `update` takes of what there is."""
    kind = f"{type(metric).__module__}.{type(metric).__qualname__}"
    if not isinstance(metric, Metric):
        raise ConfigError(f"metrics.{name}: {kind} is no torchmetrics.Metric")
    if not any(one._defaults for one in _with_inner(metric)):
        raise ConfigError(
            f"metrics.{name}: {kind} keeps no state (add_state), so that it can be neither reset "
            "nor gathered over processes"
        )
    parameters = inspect.signature(metric.update).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return ["output", "batch"]
    unknown = [p.name for p in parameters if p.default is p.empty and p.name not in _GIVEN]
    asked = [parameter.name for parameter in parameters if parameter.name in _GIVEN]
    if unknown or not asked:
        what = f"asks for {', '.join(unknown)}" if unknown else "asks for nothing"
        raise ConfigError(f"metrics.{name}: {kind}.update {what}; there are {', '.join(_GIVEN)}")
    return asked


def _described(metric: Metric) -> dict[str, Any]:
    kind = type(metric)
    doc = (inspect.getdoc(kind) or kind.__name__).split("\n\n")[0]
    good = getattr(metric, "higher_is_better", None)
    return {
        "definition": str(getattr(metric, "definition", None) or " ".join(doc.split())),
        "unit": str(getattr(metric, "unit", None) or ""),
        "higher_is_better": None if good is None else bool(good),
    }


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() != 1:
        what = f"a tensor of shape {tuple(value.shape)}"
    else:
        try:
            return float(value)
        except (TypeError, ValueError):
            what = f"a {type(value).__name__}"
    raise ConfigError(
        f"metrics.{name}: compute must give a number or a dict of numbers, not {what}"
    )


def _with_inner(metric: Metric) -> list[Metric]:
    return [one for one in metric.modules() if isinstance(one, Metric)]


def _fill_empty(metrics: list[Metric]) -> None:
    """Give lists that are empty on this process, which saw no case, an empty tensor.

    torchmetrics would gather a tensor of another type and rank for them.
    """
    flat = [one for metric in metrics for one in _with_inner(metric)]
    places = [
        (index, key)
        for index, metric in enumerate(flat)
        for key, default in metric._defaults.items()
        if isinstance(default, list)
    ]
    kinds = {}
    for index, key in places:
        if state := getattr(flat[index], key):
            kinds[index, key] = (state[0].dtype, tuple(state[0].shape[1:]))
    everywhere = gather_from_ranks(kinds)
    for index, key in places:
        known = [of_rank[index, key] for of_rank in everywhere if (index, key) in of_rank]
        if known and not getattr(flat[index], key):
            dtype, shape = known[0]
            empty = torch.empty((0, *shape), dtype=dtype, device=flat[index].device)
            setattr(flat[index], key, [empty])
            flat[index]._update_count = 1  # else torchmetrics warns that nothing was measured
