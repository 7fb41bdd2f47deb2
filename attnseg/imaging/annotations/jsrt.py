"""JSRT's clinical tables: CLNDAT_EN.txt (154 radiographs with one nodule each).

A line is, separated by tabs: file name (JPCLN001.IMG), subtlety 1-5 (5 obvious), size in mm, age,
sex, x and y of the nodule's centre in the 2048 x 2048 image, malignant or benign, place,
diagnosis. Copies exist in which lines run into each other, so records are found by their names.
Source: Shiraishi et al., AJR 174(1), 2000; db.jsrt.or.jp.
"""

from __future__ import annotations

import re
from pathlib import Path

from attnseg.common.errors import DataError
from attnseg.imaging.annotations.nodule import Disc, Nodule

SIDE_PX = 2048
SPACING_MM = 0.175
_NAME = re.compile(r"(JPCLN\d{3})\.IMG", re.IGNORECASE)
_FIELDS = re.compile(
    r"\s*(?P<subtlety>\S+)\s+(?P<size>\S+)\s+(?P<age>\S+)\s+(?P<sex>[a-z]+|\?)"
    r"\s+(?P<x>\S+)\s+(?P<y>\S+)\s+(?P<kind>malignant|benign)\b",
    re.IGNORECASE,
)


def read_jsrt_table(path: Path) -> dict[str, Nodule]:
    """The nodule of each radiograph, by its name in capitals without ending (JPCLN001).

    Raises:
        DataError: unreadable, not this table, or lists every record that cannot be understood.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None
    parts = _NAME.split(text)[1:]
    if not parts:
        raise DataError(f"{path}: no record of a JPCLNnnn.IMG in it; JSRT's CLNDAT_EN.txt is meant")
    problems: list[str] = []
    nodules: dict[str, Nodule] = {}
    for name, record in zip(parts[::2], parts[1::2], strict=True):
        name = name.upper()
        if name in nodules:
            problems.append(f"{path}: {name} is there twice; keep one record")
            continue
        nodule = _nodule(name, record.replace(",", " "), f"{path}: {name}", problems)
        if nodule is not None:
            nodules[name] = nodule
    if problems:
        raise DataError(f"{path}: has records that cannot be understood:", problems)
    return nodules


def _nodule(name: str, record: str, where: str, problems: list[str]) -> Nodule | None:
    match = _FIELDS.match(record)
    if match is None:
        shown = " ".join(record.split())[:60]
        problems.append(
            f"{where}: {shown!r} is not subtlety, size, age, sex, x, y, malignant or benign"
        )
        return None
    try:
        size, x, y = (float(match[key]) for key in ("size", "x", "y"))
    except ValueError:
        problems.append(f"{where}: size, x and y must be numbers")
        return None
    found = []
    if not size > 0:
        found.append(f"size is {size:g} mm; it must be above 0")
    if not (0 <= x < SIDE_PX and 0 <= y < SIDE_PX):
        found.append(f"its centre ({x:g}, {y:g}) is outside the image of {SIDE_PX} x {SIDE_PX} px")
    if match["subtlety"] not in ("1", "2", "3", "4", "5"):
        found.append(f"subtlety is {match['subtlety']!r}; it is rated from 1 to 5")
    if found:
        problems += [f"{where}: {problem}" for problem in found]
        return None
    return Nodule(
        name,
        Disc((x, y), size / SPACING_MM),
        subtlety=int(match["subtlety"]),
        malignant=match["kind"].lower() == "malignant",
    )
