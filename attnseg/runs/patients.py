"""The patients that a model was ever trained on, as salted hashes."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

KEY = "trained_patients"  # in a checkpoint's record, status.json and metrics.json
_WIDTH = 8  # bytes of a hash: two of a million patients share one once in 40 million times


@dataclass(frozen=True)
class _Group:
    """Patients noted by one run: hashes under its salt, or plain ids where there is none."""

    salt: str
    members: frozenset[bytes]

    def key(self, patient: str) -> bytes:
        text = patient.encode("utf-8", "surrogatepass")
        salt = bytes.fromhex(self.salt)
        return hashlib.blake2b(text, digest_size=_WIDTH, key=salt).digest() if salt else text

    def plus(self, ids: Iterable[str]) -> _Group:
        return replace(self, members=self.members | {self.key(one) for one in ids})

    def record(self) -> dict[str, Any]:
        members = sorted(self.members)
        if not self.salt:
            return {"ids": [one.decode("utf-8", "surrogatepass") for one in members]}
        return {"salt": self.salt, "hashes": base64.b64encode(b"".join(members)).decode()}


_PLAIN = _Group("", frozenset())


@dataclass(frozen=True)
class TrainedPatients:
    """A set of patients that can be asked whether an id is among them.

    Every run has a salt of its own; what it inherits from the run that it began from keeps that
    one's, in a group of its own. Salts keep ids out of sight, and files from being linked by them;
    they hide nothing from somebody with a list of possible ids to try.
    """

    groups: tuple[_Group, ...] = ()

    @classmethod
    def of(cls, ids: Iterable[str], *, keep_ids: bool = False) -> TrainedPatients:
        """These patients.

        Args:
            ids: as the data set has them.
            keep_ids: keep them as they are, instead of hashes under a new salt.
        """
        empty = _PLAIN if keep_ids else _Group(secrets.token_hex(16), frozenset())
        return cls((empty.plus(ids),))

    def plus(self, ids: Iterable[str], *, keep_ids: bool = False) -> TrainedPatients:
        """With these patients of the same run (the first group), under its salt."""
        if self.groups and bool(self.groups[0].salt) != keep_ids:
            return TrainedPatients((self.groups[0].plus(ids), *self.groups[1:]))
        return TrainedPatients.of(ids, keep_ids=keep_ids).union(self)

    def union(self, *others: TrainedPatients) -> TrainedPatients:
        """The patients of all; the groups of this one first."""
        merged: dict[str, _Group] = {}
        for group in (group for one in (self, *others) for group in one.groups):
            known = merged.get(group.salt, replace(group, members=frozenset()))
            merged[group.salt] = replace(group, members=group.members | known.members)
        return TrainedPatients(tuple(merged.values()))

    def hashed(self) -> TrainedPatients:
        """The same set without a plain id."""
        rest = tuple(group for group in self.groups if group.salt)
        plain = [one for group in self.groups if not group.salt for one in group.record()["ids"]]
        return TrainedPatients.of(plain).union(TrainedPatients(rest)) if plain else self

    def __contains__(self, patient: str) -> bool:
        return any(group.key(patient) in group.members for group in self.groups)

    def __bool__(self) -> bool:
        return any(group.members for group in self.groups)

    def record(self) -> list[dict[str, Any]]:
        """Plain types: of every group its salt and hashes (joined, base64), or its ids."""
        return [group.record() for group in self.groups]

    @classmethod
    def from_record(cls, about: Mapping[str, Any]) -> TrainedPatients:
        """The patients that a checkpoint's record, status.json or metrics.json notes.

        Checkpoints of before there were hashes have plain ids in their data record.

        Raises:
            KeyError, TypeError, ValueError: what is noted is broken.
        """
        if KEY in about:
            return cls().union(*(cls((_group(one),)) for one in about[KEY]))
        data = about.get("data")
        ids = data.get("train_patients") if isinstance(data, Mapping) else None
        return cls.of(str(one) for one in ids) if ids else cls()


def _group(record: Mapping[str, Any]) -> _Group:
    if "ids" in record:
        return _PLAIN.plus(str(one) for one in record["ids"])
    blob = base64.b64decode(record["hashes"], validate=True)
    members = frozenset(blob[start : start + _WIDTH] for start in range(0, len(blob), _WIDTH))
    group = _Group(str(record["salt"]), members)
    if not group.salt or len(blob) % _WIDTH or len(group.key("")) != _WIDTH:
        raise ValueError("no salted hashes")
    return group
