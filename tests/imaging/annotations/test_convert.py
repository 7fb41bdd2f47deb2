"""From annotation files and CTs to mask volumes, as `attnseg data mask` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from attnseg.common.errors import ConfigError, DataError
from attnseg.config import DataMaskConfig
from attnseg.imaging.annotations.convert import convert
from tests.imaging.annotations.formats import lidc_xml, nodule, non_nodule, ring, roi
from tests.imaging.annotations.test_volume import dicom_series

Z0 = -100.0


def _ct(path: Path, shape: tuple[int, int, int] = (6, 20, 24)) -> Path:
    image = sitk.GetImageFromArray(np.zeros(shape, np.int16))
    image.SetSpacing((0.7, 0.7, 2.5))
    image.SetOrigin((-10.0, -5.0, Z0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def _xml(path: Path, **more: Any) -> Path:
    big = nodule("a", roi(Z0 + 2.5, ring(3, 3, 9, 9)), roi(Z0 + 5.0, ring(3, 3, 9, 9)))
    other = nodule("b", roi(Z0 + 2.5, ring(4, 3, 9, 9)))
    small = nodule("c", roi(Z0 + 7.5, [(15, 15)]), rated=False)
    return lidc_xml(path, big + small, other, non_nodule("d", Z0, 1, 1), **more)


def _convert(annotations: Path, ct: Path, out: Path, **options: Any) -> list[np.ndarray]:
    config = DataMaskConfig(annotations=str(annotations), ct=str(ct), out=str(out), **options)
    paths = [written.path for written in convert(config, progress=False)]
    return [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in paths]


def test_an_xml_and_its_ct(tmp_path: Path) -> None:
    ct, xml = _ct(tmp_path / "ct.nii.gz"), _xml(tmp_path / "a.xml")
    (union,) = _convert(xml, ct, tmp_path / "out" / "m.nii.gz")
    assert union.shape == (6, 20, 24)
    assert union.sum() == 50
    (both,) = _convert(xml, ct, tmp_path / "both.nii.gz", readers=2)
    assert both.sum() == 20
    (points,) = _convert(xml, ct, tmp_path / "p.nii.gz", findings=["small_nodule", "non_nodule"])
    assert np.argwhere(points).tolist() == [[0, 1, 1], [3, 15, 15]]
    everything = ["nodule", "small_nodule", "non_nodule"]
    (labels,) = _convert(xml, ct, tmp_path / "l.nii.gz", findings=everything, labels=True)
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    made = sitk.ReadImage(str(tmp_path / "out" / "m.nii.gz"))
    np.testing.assert_allclose(made.GetOrigin(), (-10.0, -5.0, Z0), atol=1e-4)


def test_a_folder_of_cts_and_one_of_files(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        _ct(tmp_path / "cts" / f"{name}.nii.gz")
        _xml(tmp_path / "marks" / f"{name}.xml", series=f"1.{name[1]}")
    first, second = _convert(tmp_path / "marks", tmp_path / "cts", tmp_path / "out")
    assert first.sum() == second.sum() == 50
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "p1_mask.nii.gz",
        "p2_mask.nii.gz",
    ]


def test_dicom_series_find_their_xml_by_uid(tmp_path: Path) -> None:
    dicom_series(tmp_path / "cts" / "patient" / "scan", n=4)
    xml = lidc_xml(
        tmp_path / "marks" / "158.xml",
        nodule("a", roi(-16.0, ring(3, 3, 9, 9), sop="1.2.1")),  # the UID wins over the z
        series="1.2.99",
    )
    (made,) = _convert(xml.parent, tmp_path / "cts", tmp_path / "out")
    assert np.flatnonzero(made.any(axis=(1, 2))).tolist() == [1]
    (again,) = _convert(xml, tmp_path / "cts" / "patient" / "scan", tmp_path / "one.nii.gz")
    np.testing.assert_array_equal(again, made)


def test_luna16_s_table_names_scans_by_their_files(tmp_path: Path) -> None:
    _ct(tmp_path / "cts" / "1.3.6.1.mha")
    _ct(tmp_path / "cts" / "1.3.6.2.mha")
    table = tmp_path / "annotations.csv"
    row = f"1.3.6.1,{-10 + 0.7 * 10},{-5 + 0.7 * 8},{Z0 + 5.0},4.0"
    table.write_text(f"seriesuid,coordX,coordY,coordZ,diameter_mm\n{row}\n")
    first, second = _convert(table, tmp_path / "cts", tmp_path / "out")
    assert first[2, 8, 10] == 1
    assert first.sum() == pytest.approx(4 / 3 * np.pi * 2**3 / (0.7 * 0.7 * 2.5), rel=0.35)
    assert not second.any()  # LUNA16 lists no scan without nodules
    with pytest.raises(DataError, match="no row of scan 9"):
        _convert(table, tmp_path / "cts" / "1.3.6.1.mha", tmp_path / "a.nii.gz", scan=9)


def test_a_mask_volume_may_count_readers(tmp_path: Path) -> None:
    ct = _ct(tmp_path / "ct.nii.gz")
    votes = np.zeros((6, 20, 24), np.uint8)
    votes[2:4, 4:10, 4:10], votes[2:4, 5:9, 5:9] = 1, 3
    image = sitk.GetImageFromArray(votes)
    image.CopyInformation(sitk.ReadImage(str(ct)))
    sitk.WriteImage(image, str(tmp_path / "votes.nii.gz"))
    (union,) = _convert(tmp_path / "votes.nii.gz", ct, tmp_path / "u.nii.gz")
    (three,) = _convert(tmp_path / "votes.nii.gz", ct, tmp_path / "t.nii.gz", readers=3)
    assert (union.sum(), three.sum()) == (72, 32)
    with pytest.raises(DataError, match="no voxel has 4 votes; its highest value is 3"):
        _convert(tmp_path / "votes.nii.gz", ct, tmp_path / "f.nii.gz", readers=4)
    other = _ct(tmp_path / "other.nii.gz", (6, 20, 20))
    with pytest.raises(DataError, match="on another grid than the CT"):
        _convert(tmp_path / "votes.nii.gz", other, tmp_path / "o.nii.gz")
    image.SetOrigin((0.0, 0.0, 0.0))
    sitk.WriteImage(image, str(tmp_path / "moved.nii.gz"))
    with pytest.raises(DataError, match=r"origin \(0, 0, 0\), not \(-10, -5, -100\)"):
        _convert(tmp_path / "moved.nii.gz", ct, tmp_path / "o.nii.gz")
    sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32) * 0.5, str(tmp_path / "half.nii.gz"))
    wrong = sitk.ReadImage(str(tmp_path / "half.nii.gz"))
    wrong.CopyInformation(sitk.ReadImage(str(ct)))
    sitk.WriteImage(wrong, str(tmp_path / "half.nii.gz"))
    with pytest.raises(DataError, match="must be whole numbers from 0"):
        _convert(tmp_path / "half.nii.gz", ct, tmp_path / "o.nii.gz")
    assert not (tmp_path / "o.nii.gz").exists()


def test_every_ct_without_annotations_is_named_at_once(tmp_path: Path) -> None:
    for name in ("p1", "p2", "p3"):
        _ct(tmp_path / "cts" / f"{name}.nii.gz")
    _xml(tmp_path / "marks" / "p2.xml")
    (tmp_path / "marks" / "p3.xml").write_text("<html>")
    with pytest.raises(DataError) as caught:
        _convert(tmp_path / "marks", tmp_path / "cts", tmp_path / "out")
    assert "1 of 3 mask volumes were written" in caught.value.headline
    assert len(caught.value.problems) == 2
    assert "p1.nii.gz: no annotations of it" in caught.value.problems[0]
    assert "p3.xml: no XML" in caught.value.problems[1]


def test_what_is_not_there_or_in_no_known_format(tmp_path: Path) -> None:
    ct = _ct(tmp_path / "ct.nii.gz")
    with pytest.raises(ConfigError, match=r"annotations=.*no such file"):
        _convert(tmp_path / "none.xml", ct, tmp_path / "o.nii.gz")
    (tmp_path / "a.csv").write_text("patient,x\n")
    with pytest.raises(ConfigError, match="in no known format; say it with format="):
        _convert(tmp_path / "a.csv", ct, tmp_path / "o.nii.gz")
    with pytest.raises(ConfigError, match="no such consensus level"):
        _convert(_xml(tmp_path / "a.xml"), ct, tmp_path / "o.nii.gz", readers="most")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no NIfTI, MHA, NRRD or DICOM"):
        _convert(tmp_path / "a.xml", tmp_path / "empty", tmp_path / "o")
