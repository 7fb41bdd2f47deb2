"""ChestX-Det's JSON (and ChestX-Det10's, without polygons): findings on images of ChestX-ray14.

A list of {"file_name": "00000042_006.png", "syms": [...], "boxes": [[left, top, right, bottom],
...], "polygons": [[[x, y], ...], ...]}; the lists belong together.
Source: Lian et al., arXiv 2104.10326; github.com/Deepwise-AILab/ChestX-Det-Dataset.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from attnseg.common.errors import DataError
from attnseg.imaging.annotations.nodule import Box, Nodule, Polygon

SYMS = (
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "Diffuse Nodule",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Fracture",
    "Mass",
    "Nodule",
    "Pleural Thickening",
    "Pneumothorax",
)


def read_chestx_det(path: Path, labels: Collection[str]) -> dict[str, tuple[Nodule, ...]]:
    """The findings of each image that are among `labels`, by file name; other findings are left.

    Raises:
        DataError: unreadable, not this JSON, or lists every finding that makes no sense.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: no JSON, or cut off ({error})") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f'{path}: a list of {{"file_name": ..., "syms": [...], ...}} is meant')
    problems: list[str] = []
    found: dict[str, tuple[Nodule, ...]] = {}
    for number, entry in enumerate(entries, start=1):
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            problems.append(f"{path}, entry {number}: no file_name")
        elif name in found:
            problems.append(f"{path}, entry {number}: {name} is there twice; keep one")
        else:
            where = f"{path}, {name}"
            found[name] = tuple(_nodules(entry, where, labels, problems))
    if problems:
        raise DataError(f"{path}: has findings that cannot be understood:", problems)
    return found


def _nodules(
    entry: dict[str, Any], where: str, labels: Collection[str], problems: list[str]
) -> list[Nodule]:
    syms, boxes = entry.get("syms"), entry.get("boxes")
    polygons = entry.get("polygons")
    lists = [syms, boxes, *([polygons] if polygons is not None else [])]
    if not all(isinstance(one, list) for one in lists):
        problems.append(f"{where}: syms and boxes (and polygons) must be lists")
        return []
    assert syms is not None
    assert boxes is not None
    if len({len(one) for one in lists if one is not None}) != 1:
        sizes = ", ".join(str(len(one)) for one in lists if one is not None)
        problems.append(f"{where}: syms, boxes and polygons are not equally many ({sizes})")
        return []
    nodules = []
    for number, sym in enumerate(syms, start=1):
        if sym not in SYMS:
            problems.append(f"{where}, finding {number}: {sym!r} is none of ChestX-Det's 13 kinds")
        if sym not in labels:
            continue
        try:
            points = polygons[number - 1] if polygons is not None else None
            shape = _polygon(points) if points is not None else _box(boxes[number - 1])
        except ValueError as error:
            problems.append(f"{where}, finding {number} ({sym}): {error}")
            continue
        nodules.append(Nodule(str(number), shape, label=sym))
    return nodules


def _polygon(points: Any) -> Polygon:
    pairs = _numbers(points, 2, "its polygon is no list of [x, y]")
    if len(pairs) < 3:
        raise ValueError(f"its polygon has {len(pairs)} points; at least 3 are needed")
    return Polygon(tuple((x, y) for x, y in pairs))


def _box(corners: Any) -> Box:
    ((left, top, right, bottom),) = _numbers([corners], 4, "its box is no [x1, y1, x2, y2]")
    if right <= left or bottom <= top:
        raise ValueError(f"its box [{left:g}, {top:g}, {right:g}, {bottom:g}] encloses nothing")
    return Box(left, top, right, bottom)


def _numbers(rows: Any, width: int, wrong: str) -> list[list[float]]:
    try:
        found = [[float(value) for value in row] for row in rows]
    except (TypeError, ValueError):
        raise ValueError(wrong) from None
    if any(len(row) != width or not all(map(math.isfinite, row)) for row in found):
        raise ValueError(wrong)
    return found
