"""How several readers' marks become one mask: voxel by voxel, by votes."""

from __future__ import annotations

from collections.abc import Sequence

from attnseg.common.errors import ConfigError, DataError
from attnseg.imaging.annotations.nodule import Annotations, Nodule

RULES = ("union", "majority", "all")


def votes_needed(rule: str | int, n_readers: int, name: str = "the annotations") -> int:
    """How many readers must have marked a voxel.

    Args:
        rule: `union` (one), `majority` (more than half), `all`, or a number of readers.
        n_readers: everyone who read, those who marked nothing included.
        name: what messages call the annotations.

    Raises:
        ConfigError: there is no such rule, or there are fewer readers than it asks for.
    """
    if rule == "union":
        return 1
    if rule == "majority":
        return n_readers // 2 + 1
    if rule == "all":
        return max(n_readers, 1)
    try:
        level = int(rule)
    except ValueError:
        level = 0
    if level < 1:
        raise ConfigError(
            f"readers={rule}: no such consensus level; use {', '.join(RULES)} or a number of "
            "readers (1 is the union)"
        )
    if level > max(n_readers, 1):
        plural = "reader" if n_readers == 1 else "readers"
        raise ConfigError(
            f"readers={rule}: {name} has {n_readers} {plural}; no voxel could reach that level"
        )
    return level


def by_reader(annotations: Annotations, name: str, rule: str | int) -> list[list[Nodule]]:
    """The nodules of each reader; of one nameless reader, where the format tells none apart.

    Raises:
        DataError: a consensus is wanted of readers that cannot be told apart.
    """
    if not annotations.readers:
        if rule not in ("union", 1, "1"):
            raise DataError(
                f"{name}: does not say which reader made which mark, so readers={rule} cannot be "
                "counted; use readers=union"
            )
        return [list(annotations.nodules)]
    groups: dict[str | None, list[Nodule]] = {reader: [] for reader in annotations.readers}
    for nodule in annotations.nodules:
        groups[nodule.reader].append(nodule)
    return list(groups.values())


def chosen(annotations: Annotations, findings: Sequence[str]) -> Annotations:
    """Only the findings of some of LIDC's categories; all readers stay."""
    kept = tuple(nodule for nodule in annotations.nodules if nodule.finding in findings)
    return Annotations(kept, annotations.readers, annotations.series_uid)
