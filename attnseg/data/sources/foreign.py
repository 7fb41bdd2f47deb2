"""Anybody's source, looked at from outside: what it fails with is told with file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from attnseg.common.errors import ConfigError, DataError, UserError
from attnseg.common.importing import place_of
from attnseg.config.component import Component
from attnseg.data.findings import some
from attnseg.data.sources.base import Source
from attnseg.data.sources.files import fingerprint_files, named_files
from attnseg.imaging.case import Case, CaseContent, CaseImages
from attnseg.runs.code import digest_of_classes

_METHODS = ("load", "problems", "content")
_BASE = f"{Source.__module__}.{Source.__name__}"


class ForeignSource(Source):
    """A `Source`, or a sequence of cases with `load(index)`, `problems()` and `content(case)`.

    Args:
        made: it.
        component: what the configuration says of it.

    Raises:
        ConfigError: it lacks something.
    """

    def __init__(self, made: Any, component: Component) -> None:
        self._made, self._name = made, component.target
        sequence = () if isinstance(made, Source) else ("__len__", "__getitem__")
        lacking = [name for name in (*sequence, *_METHODS) if not callable(getattr(made, name, 0))]
        if lacking:
            raise ConfigError(
                f"{self._name} is no source of cases: it has no {', '.join(lacking)}; derive it "
                f"from {_BASE}, which has all but cases() and load(case)"
            )
        options = json.dumps(component.options, sort_keys=True, default=str)
        self._made_by = f"{self._name}|{options}|{digest_of_classes((self._name,))}"
        self.root = getattr(made, "root", None) and Path(made.root)
        self.record = {"name": component.name, "source": self._name, **self._plain_record()}

    def cases(self) -> list[Case]:
        """Its cases; of two with one id the first."""
        return [self._listed[place] for place in self._places.values()]

    def load(self, case: Case) -> CaseImages:
        """Its images of a case.

        Raises:
            DataError: it fails, or they are no images of a case.
        """
        key = case if isinstance(self._made, Source) else self._places[case.case_id]
        with self._guarded("load", f"case {case.case_id} cannot be used: "):
            images = self._made.load(key)
        if not isinstance(images, CaseImages):
            raise DataError(f"{self._name}.load: {_found(images)}, and CaseImages are needed")
        if images.mask.size and images.mask.max() > 1:
            values = some([f"{value}" for value in np.unique(images.mask)])
            raise DataError(f"case {case.case_id}: {self._name} gives a mask of {values}, not 0, 1")
        return images

    def problems(self) -> list[str]:
        """Its problems, and ids that several of its cases have."""
        with self._guarded("problems"):
            found = [str(problem) for problem in self._made.problems()]
        twice = len(self._listed) - len(self._places)
        return found + ([f"{self._name}: {twice} cases have the id of another"] if twice else [])

    def content(self, case: Case) -> CaseContent:
        """Its content: files, or parameters in plain types."""
        with self._guarded("content"):
            content = self._made.content(case)
        if not isinstance(content, CaseContent):
            content = _content_of(content, case, self.root or Path())
        _refuse_odd(content.parameters, f"{self._name}.content")
        return content

    def fingerprint(self, case: Case) -> str:
        """Of the content, the options and the code that loads it."""
        content = self.content(case)
        made_of = json.dumps([case.case_id, case.spacing, content.parameters], sort_keys=True)
        return fingerprint_files(self._made_by, made_of, *content.files.values())

    @cached_property
    def _listed(self) -> list[Case]:
        with self._guarded("cases"):
            made = self._made
            found = (
                list(made.cases())
                if isinstance(made, Source)
                else [made[index] for index in range(len(made))]
            )
        for case in found:
            if not isinstance(case, Case):
                raise ConfigError(f"{self._name}: {_found(case)}, and a Case is needed")
        return found

    @cached_property
    def _places(self) -> dict[str, int]:
        places: dict[str, int] = {}
        for place, case in enumerate(self._listed):
            places.setdefault(case.case_id, place)
        return places

    def _plain_record(self) -> Mapping[str, Any]:
        record = getattr(self._made, "record", {})
        if not isinstance(record, Mapping):
            raise ConfigError(f"{self._name}.record: {_found(record)}, and a dictionary is needed")
        _refuse_odd(record, f"{self._name}.record")
        return record

    @contextmanager
    def _guarded(self, method: str, head: str = "") -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise DataError(f"{head}{self._name}.{method} fails: {place_of(error)}") from error


def _content_of(given: Any, case: Case, root: Path) -> CaseContent:
    """Paths, by name or not, are files; anything else are parameters."""
    paths = list(given.values() if isinstance(given, Mapping) else given) if given else []
    if isinstance(given, (Mapping, Sequence)) and all(isinstance(path, Path) for path in paths):
        if isinstance(given, Mapping):
            return CaseContent(dict(given))
        return CaseContent(
            {
                next(iter(named_files(Case(f"{case.case_id}/{number}", "", xray=path), root))): path
                for number, path in enumerate(paths)
            }
        )
    return CaseContent(parameters=given)


def _refuse_odd(value: Any, place: str) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{place}: must be plain types (numbers, text, lists, dictionaries): {error}"
        ) from None


def _found(value: Any) -> str:
    return f"gives {type(value).__name__}"
