"""What every component shares: how its options are written, and what kinds of components there are.

A component is one class (a curve: a function). The keyword arguments of its constructor are its
options: name, type, range, default and one line of documentation stand there and nowhere else.

    class Disc(Attention):
        name = "disc"  # ours alone: what conf/attention/disc.yaml says

        def __init__(
            self,
            drr_channels: Sequence[int],  # given by the framework, since the kind says so
            *,
            radius_px: Annotated[float, Gt(0), Doc("of the disc, at 512 x 512")] = 40.0,
        ) -> None: ...

Anybody's class is used alike, by `attention._target_=mylab.Disc attention.radius_px=30`. This
module imports nothing of attnseg, and neither torch nor pydantic.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen, MultipleOf
from typing_extensions import Doc

__all__ = [
    "KINDS",
    "Doc",
    "Fraction",
    "Ge",
    "Gt",
    "Interval",
    "Kind",
    "Le",
    "Len",
    "Lt",
    "Measure",
    "MinLen",
    "MultipleOf",
    "NonNegative",
    "Norm",
    "Positive",
    "Slot",
    "attribute",
    "provide",
]

Made = TypeVar("Made")

Fraction = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[int, Ge(1)]
NonNegative = Annotated[float, Ge(0)]
Norm = Literal["group", "batch", "instance"]
WeightName = Literal["segmentation", "attention", "alignment"]
"""What every schedule weighs; further terms of a loss have names of their own."""
GroupName = Literal["attention", "head", "backbone"]
"""The parts of a network that have learning rates of their own."""


@dataclass(frozen=True)
class Slot:
    """Marks an option that is itself a component; the constructor is given a factory of it.

    Attributes:
        kind: a key of `KINDS`.
    """

    kind: str


@dataclass(frozen=True)
class Measure:
    """What one value of a metric means. A metric of ours has them in its body, by name:

        measures = {"hd95": Measure("95th percentile Hausdorff distance", False, PX)}

    Attributes:
        definition: one line.
        higher_is_better: None where neither end is good.
        unit: empty for shares and counts.
        wanted: the value that it should pass, towards its good end; None where nobody says.
        needs_attention: whether a model without attention lacks it.
        evaluation: whether evaluations alone give it, for it takes time.
        each: where the name and the definition have a `{}`, what stands there; a sequence
            of numbers, or what the name says -> what the definition says.
    """

    definition: str
    higher_is_better: bool | None = None
    unit: str = ""
    wanted: float | None = None
    needs_attention: bool = False
    evaluation: bool = False
    each: Mapping[str, str] | Sequence[float] = ()

    @property
    def line(self) -> str:
        """Unit and definition."""
        return f"{self.unit}: {self.definition}" if self.unit else self.definition


def expanded(measures: Mapping[str, Measure]) -> dict[str, Measure]:
    """The measures with a name for each of `each`."""
    found = {}
    for name, measure in measures.items():
        each = measure.each
        pairs = each.items() if isinstance(each, Mapping) else ((f"{n:g}",) * 2 for n in each)
        for part, words in pairs if each else [("", "")]:
            definition = measure.definition.format(words)
            found[name.format(part)] = replace(measure, definition=definition, each=())
    return found


@dataclass(frozen=True)
class Kind:
    """What a researcher might replace.

    Attributes:
        package: dotted name of the package (or module) whose files hold ours.
        base: dotted name of the class that every component of the kind subclasses; None where
            any callable will do.
        provided: arguments that the framework gives, which are no options.
        default: the registered name of the one that is meant where none is named.
        derived: what ours of the kind are derived from, where the package holds other classes, too.
        name_key: the key that names one of ours; None where ours is the only one.
    """

    package: str
    base: str | None
    provided: tuple[str, ...] = ()
    default: str | None = None
    derived: str | None = None
    name_key: str | None = "name"


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "attention": Kind(
            "attnseg.nn.attention", "torch.nn.Module", ("drr_channels", "xray_channels")
        ),
        "curve": Kind("attnseg.schedules.curves", None, ("t",), name_key="curve"),
        "data": Kind("attnseg.data.sources", None, ("size",)),
        "transform": Kind("attnseg.data.transforms", None, ("sample", "generator")),
        "segmentation_loss": Kind(
            "attnseg.losses.segmentation", "torch.nn.Module", default="terms", name_key=None
        ),
        "attention_loss": Kind(
            "attnseg.losses.attention", "torch.nn.Module", default="terms", name_key=None
        ),
        "alignment_loss": Kind(
            "attnseg.losses.alignment", "torch.nn.Module", default="terms", name_key=None
        ),
        "loss_term": Kind("attnseg.losses.terms", None, ("output", "batch")),
        "weighting": Kind("attnseg.losses.adaptive", "torch.nn.Module", ("names",)),
        "metric": Kind("attnseg.metrics", "torchmetrics.Metric", name_key=None),
        "encoder": Kind(
            "attnseg.nn.encoders", "torch.nn.Module", ("load_weights",), default="light"
        ),
        "fusion": Kind(
            "attnseg.nn.fusion",
            "torch.nn.Module",
            ("levels",),
            default="multiplicative",
            name_key=None,
        ),
        "model": Kind(
            "attnseg.nn",
            "torch.nn.Module",
            ("attention", "load_weights"),
            derived="SegmentationModel",
        ),
        "optim": Kind(
            "attnseg.training.optimizers",
            "torch.optim.Optimizer",
            ("params",),
            default="adamw",
            name_key=None,
        ),
        "callback": Kind("attnseg.training.callbacks", "pytorch_lightning.Callback"),
        "logger": Kind("attnseg.training.loggers", "pytorch_lightning.loggers.Logger"),
        "lr_schedule": Kind(
            "attnseg.schedules.rates",
            None,
            ("optimizer", "total_steps", "total_epochs", "progress"),
            default="cosine",
            name_key="kind",
        ),
    }
)


def provide(make: Callable[..., Made], **provided: Any) -> Made:
    """Call a class (or a `functools.partial` of one) with what it asks for of `provided`."""
    parameters = inspect.signature(make).parameters
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    return make(**{k: v for k, v in provided.items() if takes_any or k in parameters})


def attribute(make: Callable[..., Any], name: str, default: Any) -> Any:
    """What the class that `make` makes says of itself."""
    while isinstance(make, functools.partial):
        make = make.func
    return getattr(make, name, default)
