"""Sources: one file a kind of data set, chosen by `data.name`."""

from __future__ import annotations

from attnseg.common.errors import DataError
from attnseg.config import (
    AnyData,
    ChestXDetDataConfig,
    JsrtDataConfig,
    LidcDrrDataConfig,
    ManifestDataConfig,
    Node21DataConfig,
)
from attnseg.imaging.case import Case, Source


def build_source(config: AnyData) -> Source:
    """The source that a data section describes; only its own reader is imported.

    Raises:
        ConfigError: the data set's root is not set or not there.
        DataError: the data set's listing cannot be used.
    """
    if isinstance(config, LidcDrrDataConfig):
        from attnseg.data.sources.lidc_drr import LidcDrrSource

        return LidcDrrSource(config)
    if isinstance(config, ManifestDataConfig):
        from attnseg.data.sources.manifest import ManifestSource

        return ManifestSource(config)
    if isinstance(config, JsrtDataConfig):
        from attnseg.data.sources.jsrt import JsrtSource

        return JsrtSource(config)
    if isinstance(config, Node21DataConfig):
        from attnseg.data.sources.node21 import Node21Source

        return Node21Source(config)
    if isinstance(config, ChestXDetDataConfig):
        from attnseg.data.sources.chestx_det import ChestXDetSource

        return ChestXDetSource(config)
    from attnseg.data.sources.phantom import PhantomSource

    return PhantomSource(config)


def sound_cases(source: Source) -> list[Case]:
    """The source's cases, if there are any and nothing is wrong with their listing.

    Raises:
        DataError: lists every problem of the listing.
    """
    if problems := source.problems():
        raise DataError("the data set cannot be used as it is:", problems)
    cases = source.cases()
    if not cases:
        raise DataError(why_empty(source))
    return cases


def unlabelled_cases(source: Source) -> list[Case]:
    """Cases that nobody has read, listed apart: for domain adaptation, never for training."""
    found = getattr(source, "unlabelled", None)
    return list(found()) if found is not None else []


def why_empty(source: Source) -> str:
    """What to say of a source without a case that can be trained on or measured."""
    count = len(unlabelled_cases(source))
    if count:
        return (
            f"no case has a mask: its {count} cases are unlabelled, which do for "
            "domain adaptation, but neither for training nor for measuring; add cases with a mask"
        )
    return "the data set is empty; add cases"
