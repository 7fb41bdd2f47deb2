"""Small files in the true formats: what the publishers of each data set write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnseg.imaging.images import write_image

Points = Sequence[tuple[int, int]]

CHARACTERISTICS = """<characteristics>
        <subtlety>{subtlety}</subtlety>
        <internalStructure>1</internalStructure>
        <calcification>6</calcification>
        <sphericity>3</sphericity>
        <margin>3</margin>
        <lobulation>3</lobulation>
        <spiculation>4</spiculation>
        <texture>5</texture>
        <malignancy>{malignancy}</malignancy>
      </characteristics>"""


def ring(left: int, top: int, right: int, bottom: int) -> Points:
    """A closed rectangle of edge pixels, as LIDC traces them: 8-connected, first = last."""
    points = [(x, top) for x in range(left, right)]
    points += [(right, y) for y in range(top, bottom)]
    points += [(x, bottom) for x in range(right, left, -1)]
    points += [(left, y) for y in range(bottom, top, -1)]
    return [*points, points[0]]


def roi(z: float, points: Points, sop: str = "1.2.3", inclusion: str = "TRUE") -> str:
    edges = "".join(
        f"<edgeMap>\n<xCoord>{x}</xCoord>\n<yCoord>{y}</yCoord>\n</edgeMap>\n" for x, y in points
    )
    return (
        f"<roi>\n<imageZposition>{z} </imageZposition>\n<imageSOP_UID>{sop}</imageSOP_UID>\n"
        f"<inclusion>{inclusion}</inclusion>\n{edges}</roi>\n"
    )


def nodule(
    name: str, *rois: str, subtlety: Any = 5, malignancy: Any = 4, rated: bool = True
) -> str:
    ratings = CHARACTERISTICS.format(subtlety=subtlety, malignancy=malignancy)
    body = ratings if rated else ""
    return (
        f"<unblindedReadNodule>\n<noduleID>{name}</noduleID>\n{body}\n{''.join(rois)}"
        "</unblindedReadNodule>\n"
    )


def non_nodule(name: str, z: float, x: int, y: int) -> str:
    return (
        f"<nonNodule>\n<nonNoduleID>{name}</nonNoduleID>\n<imageZposition>{z} </imageZposition>\n"
        f"<imageSOP_UID>1.2.3</imageSOP_UID>\n<locus>\n<xCoord>{x}</xCoord>\n<yCoord>{y}</yCoord>\n"
        "</locus>\n</nonNodule>\n"
    )


def lidc_xml(path: Path, *sessions: str, series: str = "1.3.6.1.4.1.14519") -> Path:
    """A LidcReadMessage with one reading session for each of `sessions`."""
    reads = "".join(
        "<readingSession>\n<annotationVersion>3.12</annotationVersion>\n"
        f"<servicingRadiologistID>anon</servicingRadiologistID>\n{session}</readingSession>\n"
        for session in sessions
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<LidcReadMessage uid="1.3.6.1.4.1.14519.5.2.1.6279.6001.1307390687803.0" '
        'xmlns="http://www.nih.gov" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:schemaLocation="http://www.nih.gov '
        'http://troll.rad.med.umich.edu/lidc/LidcReadMessage.xsd">\n'
        "<ResponseHeader>\n<Version>1.8.1</Version>\n<MessageId>148851</MessageId>\n"
        "<DateRequest>2005-11-03</DateRequest>\n<TimeRequest>12:25:20</TimeRequest>\n"
        "<RequestingSite>removed</RequestingSite>\n<ServicingSite>removed</ServicingSite>\n"
        "<TaskDescription>Second unblinded read</TaskDescription>\n"
        "<CtImageFile>removed</CtImageFile>\n"
        f"<SeriesInstanceUid>{series}</SeriesInstanceUid>\n"
        "<ResponseDescription>1 - Reading complete</ResponseDescription>\n"
        "<StudyInstanceUID>1.3.6.1</StudyInstanceUID>\n</ResponseHeader>\n"
        f"{reads}</LidcReadMessage>\n"
    )
    return path


# The published table's own first records, tabs between the fields, blank lines between records.
CLNDAT = {
    "JPCLN001": "5\t15\t53\tmale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer",
    "JPCLN002": "5\t30\t78\tfemale\t1614\t1090\tbenign\tl.upper lobe(S5)\tpulmonary hematoma",
    "JPCLN003": "5\t30\t63\tfemale\t1303\t447\tmalignant\tl.upper lobe(S1+2)\tlung cancer",
}


def clndat(path: Path, records: dict[str, str] = CLNDAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}.IMG\t{text}\r\n\r\n" for name, text in records.items()))
    return path


def jsrt_img(path: Path, seed: int = 0) -> np.ndarray:
    """A .IMG: 2048 x 2048 big-endian words of 12 bits; returns what is in it."""
    rows = np.linspace(0, 3000, 2048)[:, None] + np.linspace(0, 1000, 2048)[None]
    raw = (rows + seed).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw.astype(">u2").tobytes())
    return raw


def jsrt(root: Path) -> Path:
    """A nodule and a clear radiograph, as the zip files unpack."""
    jsrt_img(root / "All247images" / "JPCLN001.IMG", 1)
    jsrt_img(root / "All247images" / "JPCNN001.IMG", 2)
    clndat(root / "Clinical_Information" / "CLNDAT_EN.txt")
    return root


def node21(root: Path, rows: Sequence[str] | None = None, n: int = 6) -> Path:
    """images/*.mha and metadata.csv; by default every other image has one nodule."""
    if rows is None:
        rows = [
            f"n{i:04d}.mha,{i % 2},{12 if i % 2 else 0},{16 if i % 2 else 0},"
            f"{20 + i if i % 2 else 0},{30 if i % 2 else 0}"
            for i in range(n)
        ]
    for i in range(n):
        pixels = np.random.default_rng(i).integers(0, 4000, (64, 64)).astype(np.uint16)
        write_image(root / "images" / f"n{i:04d}.mha", pixels, (0.3, 0.3))
    (root / "metadata.csv").write_text("\n".join(["img_name,label,height,width,x,y", *rows]) + "\n")
    return root


def chestx_entry(
    name: str, syms: Sequence[str] = (), polygons: Any = None, boxes: Any = None
) -> dict[str, Any]:
    shapes = [[[10, 10], [20, 10], [20, 22], [10, 22]]] * len(syms)
    polygons = shapes if polygons is None else polygons
    boxes = [[10, 10, 20, 22]] * len(syms) if boxes is None else boxes
    return {"file_name": name, "syms": list(syms), "boxes": boxes, "polygons": polygons}


def chestx_det(root: Path, train: Sequence[Any], test: Sequence[Any] = ()) -> Path:
    for split, entries in (("train", train), ("test", test)):
        root.mkdir(parents=True, exist_ok=True)
        if entries:
            (root / f"ChestX_Det_{split}.json").write_text(json.dumps(entries))
        for entry in entries:
            number = int(entry["file_name"][:8])
            pixels = np.random.default_rng(number).integers(0, 255, (64, 64)).astype(np.uint8)
            write_image(root / f"{split}_data" / entry["file_name"], pixels)
    return root
