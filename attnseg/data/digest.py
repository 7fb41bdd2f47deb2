"""What a data set is, wherever it lies: a digest of the bytes that training sees.

It covers the training and validation cases (which are in which split, in their order), what the
source makes of its tables and options, and the bytes of every file. Where files lie, what they
are called and when they changed does not count; nor do test cases, which belong to evaluations.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from attnseg.common.errors import DataError
from attnseg.config import DataConfig
from attnseg.data.file_digests import SIZE, FileDigests
from attnseg.data.sources.base import Source
from attnseg.data.sources.files import attempt
from attnseg.imaging.case import Case, CaseContent
from attnseg.runs.content import ROW


class Membership(NamedTuple):
    """A case, and where it counts: train or val; empty where nothing is divided."""

    case_id: str
    patient_id: str
    split: str


@dataclass(frozen=True)
class Content:
    """What some cases are made of.

    Attributes:
        digest: 32 hex digits; the same for the same data wherever they lie.
        files: name relative to the data set's root -> digest of the bytes (32 hex digits); under
            `row of case <id>` that of what tables and options say of a case. Of a case that is
            generated, the generator's version and parameters.
        cases: in order.
    """

    digest: str
    files: Mapping[str, str]
    cases: tuple[Membership, ...] = ()


def content_of(
    source: Source,
    splits: Mapping[str, Sequence[Case]],
    cache: Path,
    *,
    progress: bool = True,
) -> Content:
    """The content of some cases of a source.

    Args:
        source: whose cases they are.
        splits: the cases by split; `{"": cases}` for cases that nothing divides.
        cache: folder from `cache_folder`; what is remembered of the files is there.
        progress: draw a bar where much has to be read.

    Raises:
        DataError: files cannot be read; all of them are listed.
    """
    members = [(split, case) for split, cases in splits.items() for case in cases]
    contents = [source.content(case) for _, case in members]
    paths = [path for content in contents for path in content.files.values()]
    digests = FileDigests(cache, progress=progress).of(paths)
    _refuse_unreadable(source, [case for _, case in members], contents, digests)
    files: dict[str, str] = {}
    whole = hashlib.sha256()
    for (split, case), content in zip(members, contents, strict=True):
        row = _row(case, content)
        files[f"{ROW}{case.case_id}"] = row.hex()
        whole.update(json.dumps([split, case.case_id, case.patient_id]).encode() + row)
        for name, path in content.files.items():
            digest = digests[path]
            assert isinstance(digest, bytes)
            files[name] = digest.hex()
            whole.update(digest)
    cases = tuple(Membership(case.case_id, case.patient_id, split) for split, case in members)
    return Content(whole.hexdigest()[: 2 * SIZE], files, cases)


def digest_of(config: DataConfig, *, progress: bool = True) -> str:
    """The digest of a data section's training and validation cases.

    Raises:
        ConfigError, DataError: the data set, its split or one of its files cannot be used.
    """
    from attnseg.common.paths import cache_folder
    from attnseg.data.sources import build_source, sound_cases
    from attnseg.data.splits import make_splits, training_share

    source = build_source(config)
    splits = make_splits(sound_cases(source), config.split)
    splits = replace(splits, train=training_share(splits.train, config.split))
    seen = {"train": splits.train, "val": splits.val}
    return content_of(source, seen, cache_folder(config.cache_dir), progress=progress).digest


def _row(case: Case, content: CaseContent) -> bytes:
    """Digest of what is known of a case beside its files."""
    images = [role for role in ("xray", "drr", "mask") if getattr(case, role) is not None]
    known = [case.spacing, case.pairing, case.mask_kind, case.reader, case.labelled]
    text = json.dumps([images, *known, content.parameters], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()[:SIZE]


def _refuse_unreadable(
    source: Source,
    cases: Sequence[Case],
    contents: Sequence[CaseContent],
    digests: Mapping[Path, bytes | OSError],
) -> None:
    problems: list[str] = []
    for case, content in zip(cases, contents, strict=True):
        for path in content.files.values():
            error = digests[path]
            if not isinstance(error, OSError):
                continue
            before = len(problems)
            attempt(problems, lambda case=case: source.load(case))  # type: ignore[misc]
            if len(problems) == before:
                problems.append(f"{path}: cannot be read ({error.strerror})")
            break
    if problems:
        raise DataError("the data set has cases that cannot be used:", problems)
