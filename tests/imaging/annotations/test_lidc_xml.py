from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.common.errors import DataError
from attnseg.imaging.annotations import Ball, Contours
from attnseg.imaging.annotations.lidc_xml import read_lidc_xml
from tests.imaging.annotations.formats import lidc_xml, nodule, non_nodule, ring, roi


def test_a_file_s_readers_nodules_and_points(tmp_path: Path) -> None:
    big = nodule("Nodule 001", roi(-125.0, ring(3, 4, 9, 9), "1.9"), roi(-122.5, ring(4, 4, 8, 8)))
    small = nodule("IL057_127386", roi(-120.0, [(30, 31)]), rated=False)
    path = lidc_xml(tmp_path / "069.xml", big + small, non_nodule("5", -117.5, 40, 41), "")
    found = read_lidc_xml(path)
    assert found.readers == ("1", "2", "3")
    assert found.series_uid == "1.3.6.1.4.1.14519"
    first, second, third = found.nodules
    assert (first.nodule_id, first.reader, first.subtlety, first.malignancy) == (
        "Nodule 001",
        "1",
        5,
        4,
    )
    assert first.mask_kind == "exact"
    assert isinstance(first.shape, Contours)
    contour = first.shape.contours[0]
    assert (contour.z_mm, contour.sop_uid, contour.inclusion) == (-125.0, "1.9", True)
    assert contour.points == tuple(ring(3, 4, 9, 9))
    assert (second.finding, second.reader, second.subtlety) == ("small_nodule", "1", None)
    assert second.shape == Ball((30.0, 31.0, -120.0), 0.0, in_pixels=True)
    assert second.mask_kind == "surrogate"
    assert (third.finding, third.reader) == ("non_nodule", "2")
    assert third.shape == Ball((40.0, 41.0, -117.5), 0.0, in_pixels=True)


def test_a_stray_point_beside_outlines_is_left_and_blank_ratings_are_none(tmp_path: Path) -> None:
    text = nodule("0", roi(1.0, [(5, 5)]), roi(2.0, ring(1, 1, 5, 5)), subtlety="", malignancy=0)
    (found,) = read_lidc_xml(lidc_xml(tmp_path / "a.xml", text)).nodules
    assert isinstance(found.shape, Contours)
    assert [contour.z_mm for contour in found.shape.contours] == [2.0]
    assert (found.subtlety, found.malignancy) == (None, None)


def test_a_hole_is_kept_as_one(tmp_path: Path) -> None:
    text = nodule("0", roi(1.0, ring(1, 1, 9, 9)), roi(1.0, ring(3, 3, 6, 6), inclusion="FALSE"))
    (found,) = read_lidc_xml(lidc_xml(tmp_path / "a.xml", text)).nodules
    assert isinstance(found.shape, Contours)
    assert [contour.inclusion for contour in found.shape.contours] == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "no XML, or cut off"),
        (lambda text: "patient,x,y\n", "no XML"),
        (
            lambda text: text.replace("http://www.nih.gov", "http://example.org"),
            "namespace is http",
        ),
        (lambda text: text.replace('xmlns="http://www.nih.gov" ', ""), "namespace is none"),
        (
            lambda text: text.replace("LidcReadMessage", "IdriReadMessage").replace(
                'xmlns="http://www.nih.gov"', 'xmlns="http://www.nih.gov/idri"'
            ),
            "readings of a radiograph",
        ),
        (lambda text: text.replace("LidcReadMessage", "Report"), "begins with <Report>"),
        (lambda text: text.replace("readingSession", "session"), "no readingSession"),
    ],
)
def test_a_file_that_is_none_of_lidc_s(tmp_path: Path, change: object, message: str) -> None:
    path = lidc_xml(tmp_path / "a.xml", nodule("0", roi(1.0, ring(1, 1, 5, 5))))
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        read_lidc_xml(path)
    assert str(path) in str(caught.value)


def test_every_mark_that_makes_no_sense_is_named_at_once(tmp_path: Path) -> None:
    good = roi(1.0, ring(1, 1, 5, 5))
    path = lidc_xml(
        tmp_path / "a.xml",
        nodule("a", good.replace("<xCoord>1</xCoord>", "<xCoord>one</xCoord>", 1))
        + nodule("b", good.replace("<imageZposition>1.0 </imageZposition>", ""))
        + nodule("c", good.replace("<yCoord>1</yCoord>", "<yCoord>-1</yCoord>", 1)),
        nodule("d", good, malignancy=9) + nodule("e") + nodule("f", good.replace("TRUE", "MAYBE")),
        non_nodule("g", 2.0, 3, 4).replace("locus", "place"),
    )
    with pytest.raises(DataError) as caught:
        read_lidc_xml(path)
    text = "\n".join(caught.value.problems)
    for wanted in (
        "reader 1, nodule a, slice at 1.0 mm: xCoord is 'one'",
        "reader 1, nodule b, slice at ? mm: imageZposition is missing",
        "yCoord is -1; pixels are counted in whole numbers from 0",
        "reader 2, nodule d: malignancy is '9'; it is rated from 1 to 5",
        "reader 2, nodule e: no roi",
        "inclusion is 'MAYBE'",
        "reader 3, non-nodule g: no locus",
    ):
        assert wanted in text
    assert len(caught.value.problems) == 7


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_lidc_xml(tmp_path / "none.xml")
