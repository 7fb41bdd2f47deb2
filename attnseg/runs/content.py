"""content.json: what a run's data were made of, so that what has changed since can be named.

Of every file the digest of its bytes, of every patient the split. Names stand there as salted
hashes alone, since they may hold patients' ids: today's files and patients are found by hashing
their names, and of those that are gone only the number is known.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from attnseg.common.files import write_text
from attnseg.config import TrainConfig

if TYPE_CHECKING:
    from attnseg.data.digest import Content
    from attnseg.imaging.case import Case

ROW = "row of case "
"""What a name begins with that means no file, but what tables and options say of a case."""

_WIDTH = 6  # bytes of a hash: two of 300,000 names share one once in 6000 times
_SHOWN = 20  # names in a line
_SPLITS = ("train", "val")
_MOVES = {  # (split then, split now), the gravest first
    ("train", "val"): "patients to validate on that were trained on",
    ("val", "train"): "patients to train on that were validated on",
    ("train", ""): "patients that were trained on and are left out",
    ("val", ""): "patients that were validated on and are left out",
    ("", "train"): "patients that are new in training",
    ("", "val"): "patients that are new in validation",
}


@dataclass(frozen=True)
class ContentRecord:
    """What content.json holds.

    Attributes:
        digest: of the data.
        salt: hex digits; of the names' hashes.
        files: hash of a file's name -> beginning of its digest.
        patients: hash of a patient's id -> train or val.
    """

    digest: str
    salt: str
    files: Mapping[bytes, bytes]
    patients: Mapping[bytes, str]

    def hash(self, name: str) -> bytes:
        """Of a file's name or a patient's id, under this record's salt."""
        return _hash(self.salt, name)

    def differences(self, content: Content, patients: Iterable[str] = ()) -> list[str]:
        """What today's data have otherwise, a line a kind; the gravest first.

        Args:
            content: of today's training and validation cases.
            patients: every patient of today's data set, those of test cases too.
        """
        return [*self._moved(content, patients), *self._changed(content)] or [
            "the cases are the same in another order, or of other patients"
        ]

    def _moved(self, content: Content, patients: Iterable[str]) -> list[str]:
        """Patients that are in another split than they were."""
        now = {case.patient_id: case.split for case in content.cases}
        moves: dict[tuple[str, str], list[str]] = {}
        known = set()
        for patient in dict.fromkeys([*now, *patients]):
            key = self.hash(patient)
            known.add(key)
            moves.setdefault((self.patients.get(key, ""), now.get(patient, "")), []).append(patient)
        lines = [_line(text, moves[pair]) for pair, text in _MOVES.items() if pair in moves]
        gone = len(self.patients.keys() - known)
        return lines + ([f"patients that are gone: {gone}"] if gone else [])

    def _changed(self, content: Content) -> list[str]:
        """Files, and rows of tables, that are otherwise, new or gone."""
        known: set[bytes] = set()
        differ: list[str] = []
        rows: list[str] = []
        new: list[str] = []
        for name, digest in content.files.items():
            key = self.hash(name)
            known.add(key)
            if self.files.get(key) == bytes.fromhex(digest)[:_WIDTH]:
                continue
            if name.startswith(ROW):
                rows.append(name.removeprefix(ROW))
            else:
                (differ if key in self.files else new).append(name)
        lines = [
            _line(text, names)
            for text, names in (
                ("files that differ", differ),
                ("cases of which tables say something else (spacing, marks, ...) or new", rows),
                ("files that are new", new),
            )
            if names
        ]
        gone = len(self.files.keys() - known)
        return lines + ([f"files and rows that are gone: {gone}"] if gone else [])


def write_content(path: Path, content: Content) -> None:
    """Write content.json, under a new salt; 16 characters a name."""
    salt = secrets.token_hex(16)
    files = (
        _hash(salt, name) + bytes.fromhex(digest)[:_WIDTH] for name, digest in content.files.items()
    )
    patients = {
        split: _packed(
            dict.fromkeys(_hash(salt, c.patient_id) for c in content.cases if c.split == split)
        )
        for split in _SPLITS
    }
    record = {"digest": content.digest, "salt": salt, "files": _packed(files), **patients}
    write_text(path, json.dumps(record) + "\n")


def read_content(path: Path) -> ContentRecord | None:
    """What content.json holds; None where there is none that can be read."""
    try:
        record = json.loads(path.read_text())
        files = _unpacked(record["files"], 2 * _WIDTH)
        return ContentRecord(
            str(record["digest"]),
            str(record["salt"]),
            {entry[:_WIDTH]: entry[_WIDTH:] for entry in files},
            {entry: split for split in _SPLITS for entry in _unpacked(record[split], _WIDTH)},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Knowing(Protocol):
    """What names changes: a data module."""

    @property
    def content(self) -> Content:
        """What the training and validation cases are made of."""
        ...

    @property
    def all_cases(self) -> list[Case]:
        """Every case, those of the test split too."""
        ...


def changes_since(recorded: object, path: Path, config: TrainConfig, data: Knowing) -> list[str]:
    """What has changed in the data since they were recorded, a line a kind; the gravest first.

    Args:
        recorded: data record of a status.json or a checkpoint.
        path: of the content.json that belongs to it.
        config: of the command, identified.
        data: today's.

    Returns:
        Nothing where nothing has, or where the record has no digest.
    """
    theirs = recorded.get("digest") if isinstance(recorded, Mapping) else None
    if theirs in (None, config.data_digest):
        return []
    record = read_content(path)
    if record is None or record.digest != theirs:
        return [f"the bytes of files, or who is in which split (no {path} says which)"]
    return record.differences(data.content, [case.patient_id for case in data.all_cases])


def _hash(salt: str, name: str) -> bytes:
    text = name.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_WIDTH, key=salt.encode()).digest()


def _packed(entries: Iterable[bytes]) -> str:
    return base64.b64encode(b"".join(entries)).decode()


def _unpacked(text: str, width: int) -> list[bytes]:
    blob = base64.b64decode(text, validate=True)
    return [blob[start : start + width] for start in range(0, len(blob), width)]


def _line(text: str, names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return f"{text} ({len(names)}): {', '.join(names[:_SHOWN])}{rest}"
