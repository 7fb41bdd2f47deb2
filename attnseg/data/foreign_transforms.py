"""Transforms of anybody's on training samples, after our own: `data.augment.transforms`.

One is called with the sample (a dictionary as in `attnseg.data.dataset`) and the sample's own
`torch.Generator`, keyed by (seed, epoch, sample), and returns the sample. One of MONAI's dictionary
transforms is called with the sample alone, and seeded by that generator each time. Nothing else
may be random, so that a sample is the same in any worker and in a resumed run.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnseg.build import build, factory
from attnseg.common.errors import ConfigError, UserError
from attnseg.common.importing import place_of
from attnseg.common.seeding import derive_seed
from attnseg.config.component import Component

Sample = dict[str, Any]

_IMAGES = ("xray", "drr", "mask")
_TRACES = ("_meta_dict", "_transforms")  # what MONAI's add
_MAX_SEED = 2**32


class ForeignTransform:
    """One transform, called as `transform(sample, generator)` whatever it is itself.

    Args:
        component: what the configuration says of it.

    Raises:
        ConfigError: it cannot be called with a sample, or (when called) fails or returns what is
            no sample.
    """

    def __init__(self, component: Component) -> None:
        self.name = component.target
        is_function = "sample" in component.signature.asks_for
        self._call: Any = factory(component) if is_function else build(component)
        if not callable(self._call):
            raise ConfigError(f"{self.name} makes nothing that can be called with a sample")
        self._takes_generator = _takes_two(self._call)

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """The sample after it: the same keys, shapes and types, finite, its mask 0 or 1."""
        try:
            if self._takes_generator:
                made = self._call(dict(sample), generator)
            else:
                seed = int(torch.randint(_MAX_SEED, (), generator=generator))
                if hasattr(self._call, "set_random_state"):
                    self._call.set_random_state(seed=seed)
                made = self._call(dict(sample))
        except UserError:
            raise
        except Exception as error:
            raise ConfigError(f"{self.name} fails: {place_of(error)}") from error
        return self._checked(sample, made)

    def _checked(self, before: Sample, made: Any) -> Sample:
        if not isinstance(made, dict):
            raise ConfigError(f"{self.name}: returns {type(made).__name__}, not the sample")
        keys = {key for key in made if not str(key).endswith(_TRACES)}
        if keys != before.keys():
            odd = ", ".join(sorted(map(str, keys ^ before.keys())))
            raise ConfigError(f"{self.name}: the sample must keep its keys; not the same: {odd}")
        after = {key: _plain(made[key], value) for key, value in before.items()}
        for key, value in before.items():
            if not isinstance(value, Tensor):
                continue
            now = after[key]
            if not isinstance(now, Tensor) or now.shape != value.shape or now.dtype != value.dtype:
                raise ConfigError(f"{self.name}: {key} was {_said(value)}, and is {_said(now)}")
        for key in _IMAGES:
            if not bool(torch.isfinite(after[key]).all()):
                raise ConfigError(f"{self.name}: {key} has NaN or infinite pixels after it")
        if not bool(((after["mask"] == 0) | (after["mask"] == 1)).all()):
            raise ConfigError(
                f"{self.name}: the mask has values beside 0 and 1 after it; resample it by its "
                'nearest pixel (MONAI: mode=["bilinear","bilinear","nearest"])'
            )
        return after


class ForeignTransforms:
    """All of them in order; each sample's generator is keyed by (seed, epoch, sample).

    Args:
        components: what the configuration says of them.
        seed: of the run.
    """

    def __init__(self, components: Sequence[Component], seed: int) -> None:
        self.each = [ForeignTransform(component) for component in components]
        self._seed = seed

    def __call__(self, sample: Sample, epoch: int, number: int) -> Sample:
        """The sample after all of them."""
        generator = self.generator(epoch, number)
        for transform in self.each:
            sample = transform(sample, generator)
        return sample

    def generator(self, epoch: int, number: int) -> torch.Generator:
        """That of one sample."""
        key = derive_seed("transforms", self._seed, epoch, number)
        return torch.Generator().manual_seed(key)


def _takes_two(made: Any) -> bool:
    """Whether it wants a generator beside the sample."""
    try:
        parameters = list(inspect.signature(made).parameters.values())
    except (TypeError, ValueError):
        return False
    if any(p.name == "generator" for p in parameters):
        return True
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(needed) > 1


def _plain(value: Any, before: Any) -> Any:
    """A plain tensor of MONAI's MetaTensor, or of an array."""
    if not isinstance(before, Tensor):
        return value
    if hasattr(value, "as_tensor"):
        return value.as_tensor()
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def _said(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{' x '.join(map(str, value.shape))} {str(value.dtype).removeprefix('torch.')}"
