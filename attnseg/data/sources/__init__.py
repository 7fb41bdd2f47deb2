"""Sources: one file a kind of data set, chosen by `data.name`, or anybody's by `data._target_`."""

from __future__ import annotations

from attnseg.build import build
from attnseg.common.errors import DataError
from attnseg.config.data import DataConfig
from attnseg.data.sources.base import Source
from attnseg.imaging.case import Case


def build_source(config: DataConfig) -> Source:
    """The source that a data section describes; only its own reader is imported.

    Raises:
        ConfigError: the data set's root is not set or not there, or it is no source.
        DataError: the data set's listing cannot be used.
    """
    made = build(config, size=config.size)
    if config.registered:
        source: Source = made
        return source
    from attnseg.data.sources.foreign import ForeignSource

    return ForeignSource(made, config)


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
