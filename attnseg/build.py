"""From a component in a configuration to the object: the one place that imports what it names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from attnseg.common.errors import ConfigError, UserError
from attnseg.common.importing import find_class, place_of
from attnseg.component import provide
from attnseg.config.component import Component
from attnseg.config.training import SchedulerConfig
from attnseg.schedules.phases import PhasePlan, Schedule

if TYPE_CHECKING:
    from attnseg.config.objective import LossConfig, ScheduleConfig
    from attnseg.config.training import OptimConfig
    from attnseg.losses.adaptive import AdaptiveWeights
    from attnseg.losses.combined import CombinedLoss
    from attnseg.metrics.named import NamedMetrics
    from attnseg.nn.output import SegmentationModel


class _Guarded(functools.partial):  # type: ignore[type-arg]
    """Somebody else's class with its options: what it fails with is told with file and line."""

    def __call__(self, /, *arguments: Any, **keywords: Any) -> Any:
        try:
            return super().__call__(*arguments, **keywords)
        except UserError:
            raise
        except Exception as error:
            name = f"{self.func.__module__}.{self.func.__qualname__}"
            raise ConfigError(f"{name} fails: {place_of(error)}") from error


def factory(component: Component) -> Callable[..., Any]:
    """The component's class with its options given; call it with what its kind provides."""
    options = {
        name: factory(value) if isinstance(value, Component) else value
        for name, value in component.options.items()
    }
    made = find_class(component.target)
    return (functools.partial if component.registered else _Guarded)(made, **options)


def build(component: Component, **provided: Any) -> Any:
    """Make a component.

    Args:
        component: what the configuration says of it.
        provided: what its kind provides; what its constructor does not ask for is left out.

    Raises:
        ConfigError: somebody else's class fails; the message has its file and line.
    """
    return provide(factory(component), **provided)


def build_curve(curve: Component, key: str) -> Callable[[float], float]:
    """A function of the share that has passed: a class's instance, or a function of `t`.

    Raises:
        ConfigError: somebody else's class fails; the message has its file and line.
    """
    made = factory(curve) if "t" in curve.signature.asks_for else build(curve)
    if not callable(made):
        raise ConfigError(f"{key}: {curve.target} makes nothing that can be called with a share")
    return cast(Callable[[float], float], made)


class _LazyCurve:
    """A curve that is made when its first value is asked for.

    How long a run is needs nobody's code, so reading a run folder makes none.
    """

    def __init__(self, curve: Component, key: str) -> None:
        self._curve, self._key = curve, key

    @cached_property
    def _made(self) -> Callable[[float], float]:
        return build_curve(self._curve, self._key)

    @property
    def over_run(self) -> bool:
        return bool(getattr(self._made, "over_run", False))

    def __call__(self, share: float) -> float:
        return self._made(share)


def build_schedule(config: ScheduleConfig) -> Schedule:
    """The schedule that a configuration says; curves are made when they are asked for."""
    phases = {
        name: PhasePlan(
            phase.epochs,
            {
                term: _LazyCurve(curve, f"schedule.phases.{name}.weights.{term}")
                for term, curve in phase.weights.items()
            },
            phase.lr_factors,
            phase.frozen,
        )
        for name, phase in config.phases.items()
    }
    return Schedule(phases, total_epochs=config.total_epochs, name=config.name)


def build_rates(
    optim: OptimConfig, *, total_epochs: int, batches: int, accumulated: int
) -> Callable[[float], float]:
    """The factor on every learning rate, a function of the epochs done.

    Args:
        optim: the optimizer's section.
        total_epochs: of the schedule.
        batches: of an epoch.
        accumulated: batches a step of the optimizer.

    Raises:
        ConfigError: somebody else's class fails, or needs a metric.
    """
    schedule = optim.lr_schedule
    asked = schedule.signature.asks_for
    if isinstance(schedule, SchedulerConfig):
        from attnseg.schedules.tabled import tabulated

        per_epoch = -(-batches // accumulated) if schedule.per_step else 1
        given = {"total_steps": total_epochs * per_epoch} if "total_steps" in asked else {}
        try:
            return tabulated(
                functools.partial(build, schedule, **given),
                functools.partial(build, optim),
                steps=total_epochs * per_epoch,
                batches=batches,
                accumulated=accumulated if schedule.per_step else batches,
            )
        except UserError:
            raise
        except Exception as error:  # what its steps do
            raise ConfigError(f"{schedule.target} fails: {place_of(error)}") from error
    if "progress" in asked:
        function = factory(schedule)
        return lambda progress: provide(function, progress=progress, total_epochs=total_epochs)
    made: Callable[[float], float] = build(schedule, total_epochs=total_epochs)
    return made


def build_loss(loss: LossConfig) -> CombinedLoss:
    """The combined loss.

    Raises:
        ConfigError: somebody else's term fails; the message has its file and line.
    """
    from attnseg.losses.combined import CombinedLoss

    terms = {}
    for name, term in loss.terms.items():
        called = "batch" in term.signature.asks_for
        terms[name] = factory(term) if called else build(term)
    return CombinedLoss(
        build(loss.segmentation),
        build(loss.attention),
        build(loss.alignment),
        terms,
    )


def build_metrics(metrics: Mapping[str, Component]) -> NamedMetrics:
    """The metrics that a configuration adds to those that are always measured.

    Raises:
        ConfigError: one fails (the message has its file and line), or is no metric.
    """
    from attnseg.metrics.named import NamedMetrics

    return NamedMetrics({name: build(metric) for name, metric in metrics.items()})


def build_weighting(weighting: Component | None, names: Sequence[str]) -> AdaptiveWeights | None:
    """The method that `schedule.adaptive` names; none where it is null."""
    if weighting is None:
        return None
    made: AdaptiveWeights = build(weighting, names=names)
    return made


def build_model(
    model: Component, attention: Component, *, load_weights: bool = True
) -> SegmentationModel:
    """Build the network that the configs name.

    Args:
        model: which network.
        attention: which attention mechanism.
        load_weights: False builds the same architecture without reading the file in
            `encoder.weights`, for a network that a checkpoint will fill.

    Raises:
        ConfigError: the configs do not fit together, or name a network that cannot be built.
        CheckpointError: pretrained weights cannot be loaded.
    """
    if "attention" not in model.signature.asks_for and attention.name != "none":
        raise ConfigError(
            f"model.name={model.name} takes no attention, but attention.name is "
            f"'{attention.name}': add attention=none"
        )
    made = build(model, attention=factory(attention), load_weights=load_weights)
    from attnseg.nn.output import ForeignModel, SegmentationModel

    return made if isinstance(made, SegmentationModel) else ForeignModel(made)
