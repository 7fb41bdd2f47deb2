"""LUNA16's CSV, the table beside the shared DRRs, NODE21's metadata.csv, JSRT's CLNDAT."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.common.errors import ConfigError, DataError
from attnseg.imaging.annotations import Ball, Box, Disc
from attnseg.imaging.annotations.jsrt import read_jsrt_table
from attnseg.imaging.annotations.lidc_table import read_lidc_table
from attnseg.imaging.annotations.luna16 import read_luna16
from attnseg.imaging.annotations.node21 import read_node21
from tests.imaging.annotations.formats import CLNDAT, clndat

LUNA = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
# The first rows of the published annotations.csv.
LUNA_ROWS = (
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860,"
    "-128.6994211,-175.3192718,-298.3875064,5.651470635\n"
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860,"
    "103.7836509,-211.9251487,-227.12125,4.224708481\n"
)
LIDC = (
    "annotation_id,scan_id,patient_id,nodule_id,x_px,y_px,z_mm,n_contours,max_diam_mm,volume_mm3,"
    "subtlety,internalStructure,calcification,sphericity,margin,lobulation,spiculation,texture,"
    "malignancy\n"
)
NODE = "img_name,label,height,width,x,y\n"


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_luna16_is_balls_by_series(tmp_path: Path) -> None:
    found = read_luna16(_file(tmp_path / "annotations.csv", LUNA + LUNA_ROWS))
    ((series, annotations),) = found.items()
    assert series.endswith("36860")
    assert annotations.series_uid == series
    first = annotations.nodules[0]
    assert first.shape == Ball((-128.6994211, -175.3192718, -298.3875064), 5.651470635)
    assert first.mask_kind == "surrogate"
    assert len(annotations.nodules) == 2


def test_luna16_s_wrong_rows_come_at_once(tmp_path: Path) -> None:
    rows = "a,1,2,3,-5\nb,one,2,3,4\n,1,2,3,4\nc,1,2,nan,4\nd,1,2,3,0\n"
    path = _file(tmp_path / "a.csv", LUNA + rows)
    with pytest.raises(DataError) as caught:
        read_luna16(path)
    assert caught.value.problems == [
        f"{path}, line 2: diameter_mm is -5; it must be above 0",
        f"{path}, line 3: coordX is 'one', which is no number",
        f"{path}, line 4: seriesuid is blank",
        f"{path}, line 5: coordZ is 'nan', which is no number",
        f"{path}, line 6: diameter_mm is 0; it must be above 0",
    ]
    with pytest.raises(ConfigError, match="no column named diameter_mm"):
        read_luna16(_file(tmp_path / "b.csv", "seriesuid,coordX,coordY,coordZ\n"))
    with pytest.raises(DataError, match="no such file"):
        read_luna16(tmp_path / "none.csv")


def test_the_shared_table_is_balls_in_pixels_of_the_slice(tmp_path: Path) -> None:
    row = "84,12,LIDC-IDRI-0001,Nodule 001,315.03,366.15,-116.25,8,32.21,7869.4,5,1,6,3,3,3,4,5,5\n"
    (annotations,) = read_lidc_table(_file(tmp_path / "a.csv", LIDC + row)).values()
    (nodule,) = annotations.nodules
    assert nodule.shape == Ball((315.03, 366.15, -116.25), 32.21, in_pixels=True)
    assert (nodule.nodule_id, nodule.subtlety, nodule.malignancy) == ("84", 5, 5)
    bad = row.replace("315.03", "-3").replace("32.21", "wide") + row + row.replace("5\n", "8\n")
    with pytest.raises(DataError) as caught:
        read_lidc_table(_file(tmp_path / "b.csv", LIDC + bad))
    text = "\n".join(caught.value.problems)
    for wanted in (
        "x_px is -3; it cannot be below 0",
        "max_diam_mm is 'wide'",
        "line 3: 84 is already in",
        "malignancy is '8'",
    ):
        assert wanted in text


def test_jsrt_s_table_is_discs(tmp_path: Path) -> None:
    found = read_jsrt_table(clndat(tmp_path / "CLNDAT_EN.txt"))
    assert list(found) == list(CLNDAT)
    first = found["JPCLN001"]
    assert first.shape == Disc((1634.0, 692.0), 15 / 0.175)
    assert (first.subtlety, first.malignant, first.mask_kind) == (5, True, "surrogate")
    assert found["JPCLN002"].malignant is False


def test_jsrt_s_table_with_its_line_breaks_lost(tmp_path: Path) -> None:
    text = "".join(f"{name}.IMG\t{record}" for name, record in CLNDAT.items())
    found = read_jsrt_table(_file(tmp_path / "c.txt", text))
    assert found == read_jsrt_table(clndat(tmp_path / "CLNDAT_EN.txt"))


def test_jsrt_s_wrong_records_come_at_once(tmp_path: Path) -> None:
    records = {
        "JPCLN001": "5\t15\t53\tmale\t2634\t692\tmalignant\tx\ty",
        "JPCLN002": "7\t-3\t?\t?\t1614\t1090\tbenign\tx\ty",
        "JPCLN003": "5\t30\t63\tfemale\t1303",
        "JPCLN004": "5\tbig\t63\tfemale\t1303\t447\tmalignant\tx\ty",
    }
    path = clndat(tmp_path / "c.txt", records)
    path.write_text(path.read_text() + f"JPCLN001.IMG\t{CLNDAT['JPCLN001']}\n")
    with pytest.raises(DataError) as caught:
        read_jsrt_table(path)
    text = "\n".join(caught.value.problems)
    for wanted in (
        "JPCLN001: its centre (2634, 692) is outside the image of 2048 x 2048 px",
        "JPCLN002: size is -3 mm; it must be above 0",
        "JPCLN002: subtlety is '7'",
        "JPCLN003: '5 30 63 female 1303' is not subtlety, size",
        "JPCLN004: size, x and y must be numbers",
    ):
        assert wanted in text
    with pytest.raises(DataError, match=r"no record of a JPCLNnnn.IMG"):
        read_jsrt_table(_file(tmp_path / "d.txt", "patient,x,y\n"))
    with pytest.raises(DataError, match="no such file"):
        read_jsrt_table(tmp_path / "none.txt")


def test_a_record_of_jsrt_twice(tmp_path: Path) -> None:
    path = clndat(tmp_path / "c.txt")
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match="JPCLN001 is there twice"):
        read_jsrt_table(path)


def test_node21_is_boxes_and_clear_images(tmp_path: Path) -> None:
    # The published file has its own order of columns and an index before them.
    text = (
        ",height,img_name,label,width,x,y\n"
        "0,40,n0001.mha,1,42,565,402\n1,30,n0001.mha,1,31,12,13\n2,0,c0001.mha,0,0,0,0\n"
    )
    found = read_node21(_file(tmp_path / "metadata.csv", text))
    assert [nodule.shape for nodule in found["n0001.mha"]] == [
        Box(565.0, 402.0, 607.0, 442.0),
        Box(12.0, 13.0, 43.0, 43.0),
    ]
    assert found["c0001.mha"] == ()


def test_node21_s_wrong_rows_come_at_once(tmp_path: Path) -> None:
    rows = (
        "a.mha,1,-4,5,1,1\nb.mha,2,4,5,1,1\n,1,4,5,1,1\nc.mha,1,4,,1,1\n"
        "d.mha,1,4,5,1,1\nd.mha,0,0,0,0,0\n"
    )
    with pytest.raises(DataError) as caught:
        read_node21(_file(tmp_path / "metadata.csv", NODE + rows))
    text = "\n".join(caught.value.problems)
    for wanted in (
        "line 2: height is -4; it must be above 0",
        "line 3: label is 2",
        "line 4: img_name is blank",
        "line 5: width is blank",
        "d.mha has rows with label 0 and with label 1",
    ):
        assert wanted in text
    assert len(caught.value.problems) == 5
    with pytest.raises(ConfigError, match="no column named label"):
        read_node21(_file(tmp_path / "m.csv", "img_name,height,width,x,y\n"))
