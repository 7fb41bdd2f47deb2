"""Reads W&B's offline files: protobuf records in LevelDB's log framing, in 32 KiB blocks."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768
HEADER = 7  # of the file, and of every fragment: crc (4), length (2), kind (1)
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """Every record of a .wandb file."""
    from wandb.proto import wandb_internal_pb2

    content = path.read_bytes()
    assert content[:4] == b":W&B"
    place, parts = HEADER, b""
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:  # what is left of a block is padding
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        parts += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
        else:
            assert kind in (FIRST, MIDDLE), kind


def _plain(items: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        *path, last = [item.key] if item.key else item.nested_key
        node = found
        for key in path:
            node = node.setdefault(key, {})
        node[last] = json.loads(item.value_json)
    return found


class OfflineRun:
    """What one offline piece holds."""

    def __init__(self, folder: Path) -> None:
        (self.path,) = folder.glob("run-*.wandb")
        found = list(records(self.path))
        self.runs = [r.run for r in found if r.HasField("run")]
        self.run = self.runs[-1]
        self.config = _plain(self.run.config.update)
        self.history = [_plain(r.history.item) for r in found if r.HasField("history")]
        self.summary: dict[str, Any] = {}
        for record in found:
            if record.HasField("summary"):
                self.summary |= _plain(record.summary.update)
        self.metrics = [r.metric for r in found if r.HasField("metric")]
        self.artifacts = [r.artifact for r in found if r.HasField("artifact")]
        self.exit_codes = [r.exit.exit_code for r in found if r.HasField("exit")]
        self.alerts = [r.alert for r in found if r.HasField("alert")]

    def column(self, key: str) -> list[Any]:
        """A key's values through the history."""
        return [row[key] for row in self.history if key in row]


def offline_runs(folder: Path) -> list[OfflineRun]:
    """The offline pieces of a run folder, oldest first."""
    return [OfflineRun(path) for path in sorted((folder / "wandb").glob("offline-run-*"))]
