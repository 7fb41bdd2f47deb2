"""From a component in a configuration to the object: the one place that imports what it names."""

from __future__ import annotations

import difflib
import functools
import importlib
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from attnseg.component import provide
from attnseg.config.component import Component
from attnseg.errors import ConfigError, UserError
from attnseg.hidden import without_mlflow

if TYPE_CHECKING:
    from attnseg.config.objective import LossConfig
    from attnseg.losses.adaptive import AdaptiveWeights
    from attnseg.losses.combined import CombinedLoss
    from attnseg.models.output import SegmentationModel


def find_class(target: str) -> Callable[..., Any]:
    """Import the class or function of that dotted name.

    Raises:
        ConfigError: there is nothing importable, or nothing that can be called.
    """
    module_name, _, name = target.rpartition(".")
    try:
        with without_mlflow():
            module = importlib.import_module(module_name)
    except Exception as error:  # an import runs whatever the module does
        raise ConfigError(f"{target} cannot be imported: {_place_of(error)}") from error
    found = getattr(module, name, None)
    if not callable(found):
        close = difflib.get_close_matches(name, dir(module), n=1)
        hint = f"; did you mean {module_name}.{close[0]}?" if close else ""
        raise ConfigError(f"{module_name} has no {name!r} that can be called{hint}")
    made: Callable[..., Any] = found
    return made


def _place_of(error: Exception) -> str:
    """What went wrong, with file and line."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} at {error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "<frozen" not in f.filename]
    return f"{type(error).__name__}: {error} at {frames[-1].filename}:{frames[-1].lineno}"


class _Guarded(functools.partial):  # type: ignore[type-arg]
    """Somebody else's class with its options: what it fails with is told with file and line."""

    def __call__(self, /, *arguments: Any, **keywords: Any) -> Any:
        try:
            return super().__call__(*arguments, **keywords)
        except UserError:
            raise
        except Exception as error:
            name = f"{self.func.__module__}.{self.func.__qualname__}"
            raise ConfigError(f"{name} fails: {_place_of(error)}") from error


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
    from attnseg.models.output import ForeignModel, SegmentationModel

    return made if isinstance(made, SegmentationModel) else ForeignModel(made)
