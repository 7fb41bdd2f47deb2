"""LIDC-IDRI's XML: what up to four radiologists marked in one CT, each in a reading session.

`readingSession` > `unblindedReadNodule` > `roi` (one slice: `imageZposition`, `imageSOP_UID`,
`inclusion`) > `edgeMap` (`xCoord`, `yCoord`: the first pixels outside the nodule, counted from
0). A nodule of at least 3 mm has outlines and ratings (`characteristics`); a smaller one is a
single point; `nonNodule` is a point, too. Readers are numbered, since their ids are anonymised
and the first reader of one file need not be the first of another.
Source: TCIA, LIDC XML documentation; McNitt-Gray et al., Acad Radiol 14(12), 2007.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from attnseg.common.errors import DataError
from attnseg.imaging.annotations.nodule import Annotations, Ball, Contour, Contours, Nodule

NAMESPACE = "http://www.nih.gov"
_NS = f"{{{NAMESPACE}}}"
_RADIOGRAPH = "IdriReadMessage"


def read_lidc_xml(path: Path) -> Annotations:
    """Every finding of every reader, in the file's order.

    Raises:
        DataError: no XML, not LIDC's, of a radiograph, or with marks that cannot be understood
            (all of them are listed).
    """
    root = _root(path)
    problems: list[str] = []
    nodules: list[Nodule] = []
    sessions = root.findall(f"{_NS}readingSession")
    if not sessions:
        raise DataError(f"{path}: no readingSession in it; nobody has read this CT")
    readers = [str(number) for number in range(1, len(sessions) + 1)]
    for reader, session in zip(readers, sessions, strict=True):
        for element in session.findall(f"{_NS}unblindedReadNodule"):
            nodule = _nodule(element, reader, problems)
            nodules += [nodule] if nodule is not None else []
        for element in session.findall(f"{_NS}nonNodule"):
            nodule = _non_nodule(element, reader, problems)
            nodules += [nodule] if nodule is not None else []
    if problems:
        raise DataError(f"{path}: has marks that cannot be understood:", problems)
    series = _text(root, "ResponseHeader", "SeriesInstanceUid")
    return Annotations(tuple(nodules), tuple(readers), series or None)


def _root(path: Path) -> ET.Element:
    try:
        root = ET.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None
    except (ET.ParseError, UnicodeError, ValueError) as error:
        raise DataError(f"{path}: no XML, or cut off ({error})") from None
    space, _, tag = root.tag.rpartition("}")
    if tag == _RADIOGRAPH:
        raise DataError(
            f"{path}: readings of a radiograph ({tag}), not of a CT; the CT's have LidcReadMessage"
        )
    if tag != "LidcReadMessage":
        raise DataError(f"{path}: begins with <{tag}>, but LIDC's readings with <LidcReadMessage>")
    if space.lstrip("{") != NAMESPACE:
        shown = space.lstrip("{") or "none"
        raise DataError(f"{path}: its XML namespace is {shown}; LIDC's readings have {NAMESPACE}")
    return root


def _nodule(element: ET.Element, reader: str, problems: list[str]) -> Nodule | None:
    name = _text(element, "noduleID") or "?"
    where = f"reader {reader}, nodule {name}"
    subtlety = _rating(element, "subtlety", where, problems)
    malignancy = _rating(element, "malignancy", where, problems)
    slices = [
        found
        for roi in element.findall(f"{_NS}roi")
        if (found := _contour(roi, where, problems)) is not None
    ]
    outlines = [one for one in slices if len(one.points) > 1]
    if outlines:  # a single point beside outlines is a stray mark
        shape = Contours(tuple(outlines))
        return Nodule(name, shape, reader, subtlety, malignancy)
    if not slices:
        if not element.findall(f"{_NS}roi"):
            problems.append(f"{where}: no roi, so it is nowhere")
        return None
    (x, y), z = slices[0].points[0], slices[0].z_mm
    point = Ball((float(x), float(y), z), 0.0, in_pixels=True)
    return Nodule(name, point, reader, subtlety, malignancy, finding="small_nodule")


def _contour(roi: ET.Element, where: str, problems: list[str]) -> Contour | None:
    """One slice of a nodule; None and lines in `problems` where it makes no sense."""
    found: list[str] = []
    z_mm = _number(_text(roi, "imageZposition"), "imageZposition", found)
    points = []
    for edge in roi.findall(f"{_NS}edgeMap"):
        point = _pixel(edge, found)
        points += [point] if point is not None else []
    if not points and not found:
        found.append("no edgeMap")
    word = _text(roi, "inclusion").upper() or "TRUE"
    if word not in ("TRUE", "FALSE"):
        found.append(f"inclusion is {word!r}; TRUE or FALSE is meant")
    slice_name = f", slice at {_text(roi, 'imageZposition') or '?'} mm"
    problems += [f"{where}{slice_name}: {problem}" for problem in dict.fromkeys(found)]
    if found or z_mm is None:
        return None
    return Contour(tuple(points), z_mm, _text(roi, "imageSOP_UID") or None, word == "TRUE")


def _non_nodule(element: ET.Element, reader: str, problems: list[str]) -> Nodule | None:
    name = _text(element, "nonNoduleID") or "?"
    found: list[str] = []
    z_mm = _number(_text(element, "imageZposition"), "imageZposition", found)
    locus = element.find(f"{_NS}locus")
    point = _pixel(locus, found) if locus is not None else None
    if locus is None:
        found.append("no locus")
    problems += [f"reader {reader}, non-nodule {name}: {problem}" for problem in found]
    if found or z_mm is None or point is None:
        return None
    shape = Ball((float(point[0]), float(point[1]), z_mm), 0.0, in_pixels=True)
    return Nodule(name, shape, reader, finding="non_nodule")


def _pixel(element: ET.Element, problems: list[str]) -> tuple[int, int] | None:
    found = []
    for tag in ("xCoord", "yCoord"):
        value = _number(_text(element, tag), tag, problems)
        if value is not None and (value != int(value) or value < 0):
            problems.append(f"{tag} is {value:g}; pixels are counted in whole numbers from 0")
        elif value is not None:
            found.append(int(value))
    return (found[0], found[1]) if len(found) == 2 else None


def _rating(element: ET.Element, key: str, where: str, problems: list[str]) -> int | None:
    """1 to 5; blank or 0, as small nodules have it, is none."""
    text = _text(element, "characteristics", key)
    if text in ("", "0"):
        return None
    if text not in ("1", "2", "3", "4", "5"):
        problems.append(f"{where}: {key} is {text!r}; it is rated from 1 to 5")
        return None
    return int(text)


def _number(text: str, tag: str, problems: list[str]) -> float | None:
    try:
        value = float(text)
        if value == value and abs(value) < 1e6:
            return value
    except ValueError:
        pass
    problems.append(f"{tag} is missing" if not text else f"{tag} is {text!r}, which is no number")
    return None


def _text(element: ET.Element, *path: str) -> str:
    found = element.find("/".join(f"{_NS}{tag}" for tag in path))
    return (found.text or "").strip() if found is not None else ""
