"""What every source of cases is, ours and anybody's: cases, and how their images come about."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnseg.common.errors import ConfigError
from attnseg.data.sources.files import fingerprint_files, named_files
from attnseg.imaging.case import Case, CaseContent, CaseImages


class Source(ABC):
    """A sequence of cases. A source of your own says which there are, and loads one:

        class Mine(Source):
            def __init__(self, root: str, *, window: float = 1.0) -> None: ...

            def cases(self) -> list[Case]:
                return [Case("p1-a", "p1", xray=self.root / "a.png", mask=self.root / "a-m.png")]

            def load(self, case: Case) -> CaseImages: ...

    and is chosen by `data._target_=mylab.Mine data.root=... data.window=2`. It is picklable, since
    worker processes load cases. Its constructor may ask for `size`, that of the training images.

    Attributes:
        record: plain types for the run's record.
        root: where the files lie, if they do; names within a data set begin there.
        default_size: what `data.size` is where nobody says it; None: 512.
        least_size: what it must be at least.
    """

    record: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed
    root: Path | None = None
    default_size: int | None = None
    least_size: int = 32

    @abstractmethod
    def cases(self) -> list[Case]:
        """Every case that the listing makes usable, in a stable order; each id once."""

    @abstractmethod
    def load(self, case: Case) -> CaseImages:
        """Decode (or make) the images of a case.

        Raises:
            DataError: a file is missing, unreadable, or does not fit the others.
        """

    def problems(self) -> list[str]:
        """Everything wrong that `load` cannot see (rows, names, duplicates), at once.

        Training refuses a data set that has any.
        """
        return []

    def content(self, case: Case) -> CaseContent:
        """What the data's digest is made of: the case's files, which nobody opens here.

        A source that makes its images, or reads other files than the case names, says instead
        which files, or which version of the generator and what it is given.
        """
        files = named_files(case, self.root or Path())
        if not files:
            name = f"{type(self).__module__}.{type(self).__qualname__}"
            raise ConfigError(
                f"{name}: its cases name no file, so it needs a method content(case) that returns "
                "attnseg.imaging.case.CaseContent: other files, or parameters={'version': 1, ...}"
            )
        return CaseContent(files)

    def fingerprint(self, case: Case) -> str:
        """A key of the decoded cache that changes whenever what `load` returns would."""
        content = self.content(case)
        made_of = json.dumps([case.spacing, content.parameters], sort_keys=True)
        return fingerprint_files(type(self).__qualname__, made_of, *content.files.values())

    def __len__(self) -> int:
        return len(self.cases())

    def __getitem__(self, index: int) -> Case:
        return self.cases()[index]

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases())
