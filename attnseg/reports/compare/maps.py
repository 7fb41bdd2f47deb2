"""maps.npz: the images of some cases of an evaluation, so that they need no model to be drawn."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnseg.common.files import write_atomically
from attnseg.reports.overlays import OverlayCase

FILE = "maps.npz"
_GREY = ("xray", "drr")  # shown between two percentiles: 8 bits are more than a screen has
_HEAT = ("attention", "probability")  # float16: 3 digits


def write_maps(
    cases: Sequence[OverlayCase], path: Path, made_of: Mapping[str, Any] | None = None
) -> None:
    """Write the cases' images and metrics, compressed (about 0.1 MB a case of 256 x 256).

    Args:
        cases: what to keep.
        path: of the file.
        made_of: the evaluation's that they belong to (`Evaluation.made_of`).
    """
    arrays: dict[str, Any] = {}
    records = []
    for index, case in enumerate(cases):
        for name in _GREY:
            arrays[f"{index}/{name}"] = _to_bytes(getattr(case, name))
        for name in _HEAT:
            arrays[f"{index}/{name}"] = np.asarray(getattr(case, name), np.float16)
        arrays[f"{index}/mask"] = np.asarray(case.mask > 0, np.uint8)
        metrics = {name: value for name, value in case.metrics.items() if np.isfinite(value)}
        record = {"case_id": case.case_id, "threshold": case.threshold, "metrics": metrics}
        records.append(record | {"content": case.content})
    for name, value in (("records", records), ("made_of", made_of or {})):
        arrays[name] = np.frombuffer(json.dumps(value).encode(), np.uint8)
    write_atomically(path, lambda stream: np.savez_compressed(stream, **arrays))


def read_maps(path: Path, made_of: Mapping[str, Any] | None = None) -> dict[str, OverlayCase]:
    """The cases by id; empty where there is no file that can be read, or it is of something else.

    Args:
        path: of the file.
        made_of: of the evaluation that they must belong to; an older one knows nothing of it.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = json.loads(archive["made_of"].tobytes()) if "made_of" in archive else {}
            if any(stored.get(key) != value for key, value in (made_of or {}).items()):
                return {}
            records = json.loads(archive["records"].tobytes())
            return {r["case_id"]: _case(archive, index, r) for index, r in enumerate(records)}
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return {}


def _case(archive: Any, index: int, record: dict[str, Any]) -> OverlayCase:
    names = (*_GREY, *_HEAT, "mask")
    images = {name: np.asarray(archive[f"{index}/{name}"], np.float32) for name in names}
    content = record["content"]
    return OverlayCase(
        record["case_id"],
        threshold=float(record["threshold"]),
        metrics=record["metrics"],
        content=None if content is None else (content[0], content[1], content[2], content[3]),
        **images,
    )


def _to_bytes(image: Any) -> Any:
    """An image of any scale in 256 greys over its own range."""
    low, high = float(np.nanmin(image)), float(np.nanmax(image))
    scaled = (np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-12)
    return np.round(255 * scaled).astype(np.uint8)
