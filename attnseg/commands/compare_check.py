"""Whether evaluations still hold: of the weights in best.ckpt, on data that are what they were."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attnseg.common.errors import UserError
from attnseg.config import DataConfig, EvaluateConfig, validate
from attnseg.config.trust import refuse_untrusted_source
from attnseg.data.file_digests import digests_of
from attnseg.reports.compare.evaluations import Evaluation
from attnseg.runs.content import read_content

if TYPE_CHECKING:
    from attnseg.data.digest import Content


@dataclass(frozen=True)
class Standing:
    """What can be said of an evaluation now.

    Attributes:
        kind: `holds`; `missing`; of `other weights` or `other data` than there are; `unrecorded`:
            an older one, which does not know its data; `unchecked`: its data cannot be had now.
        why: in words, unless it holds.
    """

    kind: Literal["holds", "missing", "other weights", "other data", "unrecorded", "unchecked"]
    why: str = ""

    @property
    def usable(self) -> bool:
        """Whether nothing is known to speak against it."""
        return self.kind in ("holds", "unrecorded", "unchecked")


class Present:
    """What weights and data are now; each data set is looked at once.

    Args:
        trust: packages whose sources a run's configuration may name.
    """

    def __init__(self, trust: Sequence[str] = ()) -> None:
        self._trust = trust
        self._contents: dict[str, Content | str] = {}

    def standing(
        self, evaluation: Evaluation, best: Path, config: Mapping[str, Any], split: str
    ) -> Standing:
        """Compare what an evaluation was made of with what there is.

        Args:
            evaluation: on the run's own data.
            best: the checkpoint whose figures are wanted; weights are not compared without it.
            config: the run's config.yaml.
            split: that was measured.
        """
        try:
            if evaluation.weights and best.is_file() and evaluation.weights != digests_of([best]):
                return Standing("other weights", f"measured with other weights than {best} has")
        except OSError as error:
            return Standing("unchecked", f"{best} cannot be read ({error.strerror})")
        found: Content | str = "the run's config.yaml has no data"
        for section in _sections(config.get("data"), evaluation.data):
            found = self._content(section, split)
            if not isinstance(found, str):
                break
        if isinstance(found, str):
            return Standing("unchecked", f"its data cannot be looked at ({found})")
        if evaluation.digest is None:
            return Standing("unrecorded", "the content of its data was not recorded")
        if evaluation.digest == found.digest:
            return Standing("holds")
        return Standing("other data", _differences(evaluation, found))

    def _content(self, section: Mapping[str, Any], split: str) -> Content | str:
        """What a split's cases are made of now, or why that cannot be told."""
        key = json.dumps([section, split], sort_keys=True, default=str)
        if key not in self._contents:
            try:
                refuse_untrusted_source(section, self._trust, "config.yaml")
                data = validate({"checkpoint": "-", "data": section}, EvaluateConfig).data
                assert data is not None
                self._contents[key] = content_of_split(data, split)
            except (UserError, OSError) as error:
                self._contents[key] = ": ".join(str(error).splitlines()[:2])
        return self._contents[key]


def content_of_split(data: DataConfig, split: str) -> Content:
    """What the cases of a split are made of, without a model: torch is not imported for it.

    Raises:
        ConfigError, DataError: the data set, its split or one of its files cannot be used.
    """
    from attnseg.common.paths import cache_folder
    from attnseg.data.digest import content_of
    from attnseg.data.sources import build_source, sound_cases
    from attnseg.data.splits import make_splits, training_share

    source = build_source(data)
    cases = sound_cases(source)
    if split != "all":
        splits = make_splits(cases, data.split)
        splits = replace(splits, train=training_share(splits.train, data.split))
        cases = splits[split]  # type: ignore[index]
    return content_of(source, {"": cases}, cache_folder(data.cache_dir))


def _sections(section: object, record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The run's data section, and the same where the evaluation found the data."""
    if not isinstance(section, Mapping):
        return
    yield section
    places = {"root": record.get("root") or record.get("manifest")}
    places |= {key: record.get(key) for key in ("scans_csv", "table")}
    known = {key: place for key, place in places.items() if place and key in section}
    if known and any(section[key] != place for key, place in known.items()):
        yield {**section, **known}


def _differences(evaluation: Evaluation, now: Content) -> str:
    record = read_content(evaluation.folder / "content.json")
    if record is None or record.digest != evaluation.digest:
        return "its data have changed since (which files, its folder does not say)"
    return "its data have changed since: " + "; ".join(record.differences(now))
