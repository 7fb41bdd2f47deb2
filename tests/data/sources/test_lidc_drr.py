from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnseg.common.errors import ConfigError, DataError
from attnseg.data.sources import build_source, sound_cases
from attnseg.data.sources.base import Source
from attnseg.data.sources.lidc_drr import LidcDrrSource
from attnseg.imaging.images import read_image, write_image
from tests.conftest import data_section

Folder = Callable[..., Path]


def _source(root: Path, **options: Any) -> LidcDrrSource:
    return LidcDrrSource(root=str(root), **options)


def test_cases_are_listed_by_name_with_patient_and_spacing(lidc_folder: Folder) -> None:
    root = lidc_folder(4)
    cases = _source(root).cases()
    assert [case.case_id for case in cases] == [f"LIDC-IDRI-000{i + 1}_scan  {i}" for i in range(4)]
    assert [case.patient_id for case in cases] == [f"LIDC-IDRI-000{i}" for i in range(1, 5)]
    assert [case.spacing for case in cases] == [(0.5, 0.5), (0.6, 0.6), (0.7, 0.7), (0.8, 0.8)]
    assert isinstance(_source(root), Source)
    assert _source(root).problems() == []


def test_the_folder_around_lidc_ldri_will_do(lidc_folder: Folder) -> None:
    root = lidc_folder(3)
    inner = [(c.case_id, c.spacing) for c in _source(root).cases()]
    assert [(c.case_id, c.spacing) for c in _source(root.parent).cases()] == inner


def test_without_scans_csv_spacing_is_unknown(lidc_folder: Folder) -> None:
    root = lidc_folder(3)
    (root.parent / "scans.csv").rename(root.parent / "elsewhere.csv")
    assert {case.spacing for case in _source(root).cases()} == {None}
    found = _source(root, scans_csv=str(root.parent / "elsewhere.csv")).cases()
    assert found[0].spacing == (0.5, 0.5)


def test_load_decodes_and_gives_the_drr_to_both_pathways(lidc_folder: Folder) -> None:
    source = _source(lidc_folder(2))
    case = source.cases()[0]
    images = source.load(case)
    assert case.drr is not None
    np.testing.assert_array_equal(images.drr, read_image(case.drr).pixels)
    assert images.drr.dtype == np.uint8
    np.testing.assert_array_equal(images.xray, images.drr)
    assert images.mask.sum() == 20
    assert images.spacing == (0.5, 0.5)
    assert not source.load(source.cases()[1]).mask.any()
    assert source.record["xray"] == "same"


def test_a_simulated_xray_differs_and_is_the_same_every_time(lidc_folder: Folder) -> None:
    root = lidc_folder(2, (64, 64))
    source = _source(root, xray="simulated")
    case = source.cases()[0]
    images = source.load(case)
    assert source.record["xray"] == "simulated"
    assert images.xray.dtype == np.uint16
    assert np.ptp(images.xray) > 1000
    np.testing.assert_array_equal(images.xray, _source(root, xray="simulated").load(case).xray)
    assert source.fingerprint(case) != _source(root).fingerprint(case)


def test_the_fingerprint_follows_the_files(lidc_folder: Folder) -> None:
    root = lidc_folder(2)
    source = _source(root)
    case = source.cases()[0]
    before = source.fingerprint(case)
    assert before == _source(root).fingerprint(case)
    assert case.mask is not None
    write_image(case.mask, np.zeros((40, 64), np.uint8))
    assert source.fingerprint(case) != before


def test_a_missing_root_says_what_to_set(tmp_path: Path, lidc_folder: Folder) -> None:
    with pytest.raises(ConfigError, match=r"data.root=/path/to/LIDC_LDRI"):
        build_source(data_section(name="lidc_drr"))
    with pytest.raises(ConfigError, match="no such folder"):
        _source(tmp_path / "none")
    with pytest.raises(DataError, match=r"no \*_drr.png below"):
        _source(tmp_path)
    with pytest.raises(ConfigError, match=r"data.scans_csv=.*no such file"):
        _source(lidc_folder(1), scans_csv=str(tmp_path / "no.csv"))


def test_all_problems_of_a_case_come_at_once(lidc_folder: Folder) -> None:
    source = _source(lidc_folder(2))
    case = source.cases()[0]
    assert case.drr is not None
    assert case.mask is not None
    case.drr.write_bytes(case.drr.read_bytes()[:200])
    case.mask.unlink()
    with pytest.raises(DataError) as caught:
        source.load(case)
    assert len(caught.value.problems) == 2
    assert "cannot be decoded" in caught.value.problems[0]
    assert "missing mask" in caught.value.problems[1]


def test_a_mask_on_another_grid_is_refused(lidc_folder: Folder) -> None:
    source = _source(lidc_folder(2))
    case = source.cases()[0]
    assert case.mask is not None
    write_image(case.mask, np.zeros((20, 32), np.uint8))
    with pytest.raises(DataError, match="20 x 32 px, but its DRR has 40 x 64"):
        source.load(case)


def test_the_listing_s_problems_come_at_once(lidc_folder: Folder) -> None:
    root = lidc_folder(3)
    blank = np.zeros((40, 64), np.uint8)
    write_image(root / "1-200" / "someone_drr.png", blank)
    write_image(root / "1-200" / "LIDC-IDRI-0900_x_drr_mask.png", blank)
    write_image(root / "201-400" / "LIDC-IDRI-0001_scan  0_drr.png", blank)
    with (root.parent / "scans.csv").open("a") as stream:
        stream.write("\nLIDC-IDRI-0009_drr.png,LIDC-IDRI-0009,half")
    problems = _source(root).problems()
    assert len(problems) == 4
    assert "pixel_spacing_mm is 'half'" in problems[0]
    assert "LIDC-IDRI-0001_scan  0_drr.png: duplicate case" in problems[1]
    assert "someone_drr.png: the name does not begin" in problems[2]
    assert "a mask without its DRR" in problems[3]
    names = [case.case_id for case in _source(root).cases()]
    assert len(names) == len(set(names)) == 4
    with pytest.raises(DataError) as caught:
        sound_cases(_source(root))
    assert caught.value.problems == problems


def test_one_person_under_two_ids_is_one_patient(lidc_folder: Folder) -> None:
    root = lidc_folder(2)
    for number in (29, 138):
        name = f"LIDC-IDRI-{number:04d}_y"
        write_image(root / "1-200" / f"{name}_drr.png", np.zeros((9, 9), np.uint8))
    patients = {case.case_id: case.patient_id for case in _source(root).cases()}
    assert patients["LIDC-IDRI-0138_y"] == patients["LIDC-IDRI-0029_y"] == "LIDC-IDRI-0029"


@pytest.mark.shared_data
def test_the_real_set(lidc_root: Path) -> None:
    source = _source(lidc_root)
    cases = source.cases()
    assert len(cases) == 436
    assert source.problems() == []
    assert all(case.spacing is not None for case in cases)
    # Five patients with two scans (0315 to 0442), and 0138 who is 0029.
    assert len({case.patient_id for case in cases}) == 436 - 5 - 1
    images = source.load(cases[0])
    assert images.drr.shape == (472, 512)
    assert images.spacing == (0.703125, 0.703125)
    assert 0 < images.mask.mean() < 0.01
