"""Sources: one file a kind of data set, chosen by `data.name`."""

from __future__ import annotations

from attnseg.config import AnyData, LidcDrrDataConfig, ManifestDataConfig
from attnseg.data.case import Case, Source
from attnseg.errors import DataError


def build_source(config: AnyData) -> Source:
    """The source that a data section describes; only its own reader is imported.

    Raises:
        ConfigError: the data set's root is not set or not there.
        DataError: the data set's listing cannot be used.
    """
    if isinstance(config, LidcDrrDataConfig):
        from attnseg.data.readers.lidc_drr import LidcDrrSource

        return LidcDrrSource(config)
    if isinstance(config, ManifestDataConfig):
        from attnseg.data.readers.manifest import ManifestSource

        return ManifestSource(config)
    from attnseg.data.readers.phantom import PhantomSource

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
        raise DataError("the data set is empty; add cases")
    return cases
