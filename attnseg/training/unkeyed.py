"""Random draws that no key of a run decides, found before the first step.

A run is a function of its configuration, data, code, seed and step. What a part of somebody else's
draws from NumPy's or Python's global generators, or from one of its own, would be other numbers in
a resumed run. So foreign parts are run a few times from the same keyed state, under different
states of those generators: the bits must be equal, and the generators where they were.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from attnseg.common.errors import ConfigError, UserError
from attnseg.common.seeding import seed_step
from attnseg.config.component import Component, components_in
from attnseg.data.dataset import TrainDataset
from attnseg.data.foreign_transforms import ForeignTransform
from attnseg.data.on_device import augment_batch, collate
from attnseg.data.sources.foreign import ForeignSource

if TYPE_CHECKING:
    from attnseg.data.datamodule import AttnSegDataModule
    from attnseg.training.module import AttnSegModule

_KNOWN = ("attnseg", "monai", "torch")  # what is of these packages is no part to be watched
_SAMPLES = 4  # a transform may do nothing to one
_HOW = {
    "source": "a source gives a case's images, the same each time; leave randomness to transforms",
    "transform": "draw from the torch.Generator that a transform is called with "
    "(torch.rand(..., generator=generator))",
    "step": "draw from torch's global generator (torch.rand, dropout), which every step seeds",
}


def refuse_unkeyed_draws(module: AttnSegModule, data: AttnSegDataModule) -> None:
    """Look at a source, at transforms, and at the parts of a step, where they are foreign.

    Raises:
        ConfigError: names the part, file and line, and what to draw from.
    """
    with _global_states_kept():
        if isinstance(data.source, ForeignSource):
            _look_at_source(data)
        parts = _parts_of_step(module)
        if parts or data.config.augment.transforms:
            dataset = data.train_dataloader().dataset
            assert isinstance(dataset, TrainDataset)
            _look_at_transforms(dataset, data.config.augment.transforms)
            if parts:
                _look_at_step(module, dataset, parts)


def _look_at_source(data: AttnSegDataModule) -> None:
    source = data.source
    for case in data.splits.train[:1]:

        def load(case: Any = case) -> list[Any]:
            images = source.load(case)
            return [images.xray, images.drr, images.mask]

        _refuse("source", load, [data.config])


def _look_at_transforms(dataset: TrainDataset, components: Sequence[Component]) -> None:
    for number in range(min(_SAMPLES, len(dataset))):
        sample = dataset.before_transforms(0, number)
        for component in components if dataset.transforms.each else ():

            def twice(component: Component = component, sample: Any = sample) -> Any:
                transform, key = ForeignTransform(component), (0, number)  # noqa: B023
                first = transform(sample, dataset.transforms.generator(*key))
                if not _equal(first, transform(sample, dataset.transforms.generator(*key))):
                    raise _Differs
                return first

            _refuse("transform", twice, [component])
            sample = twice()


def _look_at_step(module: AttnSegModule, dataset: TrainDataset, parts: Sequence[Component]) -> None:
    samples = [dataset[0, number] for number in range(min(2, len(dataset)))]
    batch = augment_batch(collate(samples))

    def step(fresh: AttnSegModule) -> list[Tensor]:
        seed_step(module.config.seed, 0, 0, torch.device("cpu"))
        terms = fresh._step(batch, learn=False)
        assert fresh.record.last_step is not None
        return [*fresh.record.last_step.output, *(terms[name].detach() for name in sorted(terms))]

    def twice() -> list[Tensor]:
        """A step, and the same again with the module's tensors put back."""
        fresh = type(module)(module.config, load_weights=False).train()
        before = {name: value.clone() for name, value in fresh.state_dict().items()}
        first = step(fresh)
        fresh.load_state_dict(before)
        again = step(fresh)
        if not _equal(first, again):
            raise _Differs
        return first

    try:
        _refuse("step", twice, parts)
    except UserError:
        raise
    except Exception:  # of somebody's code; the first step will tell of it, with its traceback
        return


class _Differs(Exception):
    """Two results of the same are not equal."""


def _parts_of_step(module: AttnSegModule) -> list[Component]:
    config = module.config
    found = components_in([config.model, config.attention, config.loss, config.schedule])
    return [one for one in found if one.target.partition(".")[0] not in _KNOWN]


def _refuse(kind: str, run: Callable[[], Any], parts: Sequence[Component]) -> None:
    """Run it under two states of the global generators; refuse if that makes a difference."""
    results, moved = [], None
    for seed in (1, 2):
        _seed(seed)
        before = _states()
        try:
            results.append(run())
        except _Differs:
            results.append(seed)  # equal to nothing
        moved = moved or _moved(before, kind)
    if not moved and _equal(*results):
        return
    place = _place_of_draw(run, kind, parts) if moved else None
    names = " or ".join(dict.fromkeys(f"{part.target} ({part.signature.place})" for part in parts))
    if moved:
        what = f"draws from {moved}" + (f" at {place}" if place else "")
    else:
        what = "gives another result for the same: it draws from a generator of its own"
    raise ConfigError(
        f"{names} {what}, which no seed of the run decides, so that a resumed run would be "
        f"another: {_HOW[kind]}"
    )


def _seed(value: int) -> None:
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 - the generator that others draw from
    torch.default_generator.manual_seed(value)


def _states() -> tuple[Any, Any, Tensor]:
    return np.random.get_state(), random.getstate(), torch.get_rng_state()  # noqa: NPY002


def _moved(before: tuple[Any, Any, Tensor], kind: str) -> str | None:
    """Which generator has been drawn from since."""
    numpy, python, ours = _states()
    if numpy[2] != before[0][2] or not np.array_equal(numpy[1], before[0][1]):
        return "numpy.random's global generator"
    if python != before[1]:
        return "random's global generator"
    if kind != "step" and not torch.equal(ours, before[2]):
        return "torch's global generator"
    return None


@contextmanager
def _global_states_kept() -> Iterator[None]:
    numpy, python, ours = _states()
    try:
        yield
    finally:
        np.random.set_state(numpy)  # noqa: NPY002
        random.setstate(python)
        torch.set_rng_state(ours)


def _place_of_draw(run: Callable[[], Any], kind: str, parts: Sequence[Component]) -> str | None:
    """File and line of the first draw, in the packages of these parts."""
    tops = {part.target.partition(".")[0] for part in parts}
    found: list[str] = []
    lines: dict[FrameType, int] = {}
    _seed(1)
    before = _states()

    def inside(frame: FrameType, event: str, _: Any) -> Any:
        if not found and _moved(before, kind):
            found.append(f"{frame.f_code.co_filename}:{lines.get(frame, frame.f_lineno)}")
        lines[frame] = frame.f_lineno
        return None if found else inside

    def entered(frame: FrameType, event: str, _: Any) -> Any:
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        return inside if top in tops and not found else None

    former = sys.gettrace()
    sys.settrace(entered)
    try:
        run()
    except (UserError, _Differs):
        pass
    finally:
        sys.settrace(former)
    return found[0] if found else None


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return bool(one == other)
