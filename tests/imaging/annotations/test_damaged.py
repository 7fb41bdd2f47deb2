"""A file that is damaged anywhere is read or refused in words; it never ends in a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnseg.common.errors import UserError
from attnseg.imaging.annotations.chestx_det import read_chestx_det
from attnseg.imaging.annotations.contour_table import read_contours
from attnseg.imaging.annotations.jsrt import read_jsrt_table
from attnseg.imaging.annotations.lidc_xml import read_lidc_xml
from attnseg.imaging.annotations.luna16 import read_luna16
from attnseg.imaging.annotations.node21 import read_node21
from tests.imaging.annotations.formats import chestx_entry, clndat, lidc_xml, nodule, ring, roi

COORDS = "\n".join(f"{x},{y}" for x, y in ring(3, 4, 7, 8))
CONTOURS = [{"id": 1, "contours": [{"image_z_position": 1.0, "coords": COORDS}]}]


def _xml(path: Path) -> None:
    lidc_xml(path, nodule("a", roi(1.0, ring(1, 1, 4, 4))))


READERS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "a.xml": (_xml, read_lidc_xml),
    "c.txt": (clndat, read_jsrt_table),
    "d.json": (
        lambda path: path.write_text(json.dumps([chestx_entry("a.png", ["Nodule"])])),
        lambda path: read_chestx_det(path, ["Nodule"]),
    ),
    "e.json": (lambda path: path.write_text(json.dumps(CONTOURS)), read_contours),
    "f.csv": (
        lambda path: path.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\na,1,2,3,4\n"),
        read_luna16,
    ),
    "g.csv": (
        lambda path: path.write_text("img_name,label,height,width,x,y\na.mha,1,4,5,6,7\n"),
        read_node21,
    ),
    "h.csv": (
        lambda path: path.write_text(f'annotation_id,image_z_position,coords\n1,2,"{COORDS}"\n'),
        read_contours,
    ),
}


@pytest.mark.parametrize("name", sorted(READERS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.floats(0.0, 1.0), st.binary(max_size=6), st.integers(0, 8))
def test_damage_is_told_in_words(
    tmp_path: Path, name: str, place: float, put: bytes, cut: int
) -> None:
    write, read = READERS[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    read(path)  # undamaged, it is understood
    at = int(place * len(whole))
    path.write_bytes(whole[:at] + put + whole[at + cut :])
    assert str(path) in _message(read, path)


def _message(read: Callable[[Path], Any], path: Path) -> str:
    """What a reader refuses a file with; the path alone where it reads it."""
    try:
        read(path)
    except UserError as error:
        return str(error)
    return str(path)
