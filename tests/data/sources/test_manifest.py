from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnseg.common.errors import ConfigError, DataError
from attnseg.data.sources import sound_cases, unlabelled_cases
from attnseg.data.sources.base import Source
from attnseg.data.sources.manifest import ManifestSource
from attnseg.imaging.images import write_image

HEADER = "case,patient,xray,drr,mask,spacing,split\n"


def _write(folder: Path, rows: str, header: str = HEADER) -> Path:
    path = folder / "manifest.csv"
    path.write_text(header + rows)
    return path


def _source(root: Path, **options: Any) -> ManifestSource:
    return ManifestSource(root=str(root), **options)


def _image(path: Path, shape: tuple[int, int] = (30, 40), spacing: Any = None) -> np.ndarray:
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, shape).astype(np.uint8)
    write_image(path, pixels, spacing)
    return pixels


def _mask(path: Path, shape: tuple[int, int] = (30, 40), spacing: Any = None) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[shape[0] // 2 - 3 : shape[0] // 2 + 3, shape[1] // 2 - 3 : shape[1] // 2 + 3] = 1
    write_image(path, mask, spacing)
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _image(tmp_path / "x.png")
    _image(tmp_path / "sub" / "drr.png")
    _mask(tmp_path / "m.png")
    return tmp_path


def test_rows_become_cases(folder: Path) -> None:
    absolute = folder / "x.png"
    source = _source(
        _write(folder, f"a,p,x.png,sub/drr.png,m.png,0.5x0.7,val\nb,q,{absolute},,none,,\n")
    )
    first, second = source.cases()
    assert (first.patient_id, first.spacing, first.split) == ("p", (0.5, 0.7), "val")
    assert (second.drr, second.xray, second.mask, second.split) == (None, absolute, None, None)
    assert isinstance(source, Source)
    assert _source(folder).cases() == source.cases()  # the folder will do
    images = source.load(first)
    assert images.spacing == (0.5, 0.7)
    assert images.mask.sum() == 36
    assert (images.xray != images.drr).any()
    blank = source.load(second)
    np.testing.assert_array_equal(blank.xray, blank.drr)
    assert not blank.mask.any()
    assert source.record["n_drr_from_xray"] == 1
    assert source.record["n_xray_from_drr"] == 0


def test_every_bad_row_is_named_at_once(folder: Path) -> None:
    rows = "a,p,x.png,,,,\n,p,x.png,,none,,\nc,p,,,none,,\nd,p,x.png,,none,wide,\n"
    source = _source(_write(folder, rows + "e,p,x.png,,none,,\ne,p,sub/drr.png,,none,,\n"))
    problems = source.problems()
    assert len(problems) == 5
    assert "line 2: case a: mask is blank; write 'none'" in problems[0]
    assert "line 3: case ?: case is blank" in problems[1]
    assert "line 4: case c: xray and drr are both blank" in problems[2]
    assert "line 5: case d: spacing is 'wide'" in problems[3]
    assert "line 7: duplicate case 'e', already in line 6" in problems[4]
    (case,) = source.cases()
    assert case.case_id == "e"
    with pytest.raises(DataError) as caught:
        sound_cases(source)
    assert caught.value.problems == problems


def test_an_image_is_of_one_patient(folder: Path) -> None:
    source = _source(_write(folder, "a,p,x.png,,none,,\nb,q,x.png,,m.png,,\n"))
    (problem,) = source.problems()
    assert "x.png: listed for patients p, q" in problem
    same = _source(_write(folder, "a,p,x.png,,none,,\nb,p,x.png,sub/drr.png,m.png,,\n"))
    assert same.problems() == []  # one X-ray, two CTs


def test_a_missing_root_manifest_or_column_says_what_to_do(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root is not set"):
        ManifestSource()
    with pytest.raises(ConfigError, match=r"no file .*manifest.csv"):
        _source(folder)
    _write(folder, "", "case,patient,xray,mask\n")
    with pytest.raises(ConfigError, match="no column named drr"):
        _source(folder)
    _write(folder, "")
    with pytest.raises(DataError, match="no rows"):
        _source(folder)


def test_missing_files_of_a_case_come_at_once(folder: Path) -> None:
    source = _source(_write(folder, "a,p,no.png,nor.png,neither.png,,\n"))
    with pytest.raises(DataError) as caught:
        source.load(source.cases()[0])
    assert len(caught.value.problems) == 3


def _mismatched(folder: Path, mask_shape: tuple[int, int], spacing: str = "") -> str:
    _image(folder / "small.png", (60, 80))
    _mask(folder / "mm.png", mask_shape)
    return f"a,p,x.png,small.png,mm.png,{spacing},\n"


def test_another_grid_is_refused_by_default(folder: Path) -> None:
    source = _source(_write(folder, _mismatched(folder, (30, 40))))
    with pytest.raises(DataError) as caught:
        source.load(source.cases()[0])
    assert len(caught.value.problems) == 2  # X-ray and mask
    assert "x.png: 30 x 40 px, but the case's grid is 60 x 80 px" in caught.value.problems[0]
    assert "data.on_mismatch=resample" in caught.value.problems[0]


def test_another_grid_is_resampled_on_request(folder: Path) -> None:
    path = _write(folder, _mismatched(folder, (30, 40)))
    source = _source(path, on_mismatch="resample")
    case = source.cases()[0]
    images = source.load(case)
    assert images.xray.shape == images.drr.shape == (60, 80)
    assert images.mask[24:36, 34:46].all()
    assert images.mask.sum() == 144
    assert source.fingerprint(case) != _source(path).fingerprint(case)


def test_another_aspect_without_spacing_is_refused_even_then(folder: Path) -> None:
    source = _source(_write(folder, _mismatched(folder, (30, 30))), on_mismatch="resample")
    with pytest.raises(DataError, match=r"mm.png: 30 x 30 px has another aspect"):
        source.load(source.cases()[0])


def test_other_spacing_is_placed_in_millimetres(folder: Path) -> None:
    _image(folder / "d.mha", (60, 80), (1.0, 1.0))
    _image(folder / "x.mha", (200, 200), (0.5, 0.5))
    _mask(folder / "m.mha", (200, 200), (0.5, 0.5))  # 3 x 3 mm in the centre
    path = _write(folder, "a,p,x.mha,d.mha,m.mha,,\n")
    source = _source(path, on_mismatch="resample")
    images = source.load(source.cases()[0])
    assert images.spacing == (1.0, 1.0)
    assert images.mask.shape == (60, 80)
    assert 4 <= images.mask.sum() <= 16
    assert images.mask[28:32, 38:42].any()


def test_the_same_size_with_other_spacing_is_another_grid(folder: Path) -> None:
    _image(folder / "d.mha", (60, 80), (1.0, 1.0))
    _image(folder / "x.mha", (60, 80), (0.5, 0.5))
    source = _source(_write(folder, "a,p,x.mha,d.mha,none,,\n"))
    with pytest.raises(DataError, match=r"60 x 80 px at 0.5 x 0.5 mm, but .* at 1 x 1 mm"):
        source.load(source.cases()[0])


def test_the_spacing_column_wins_over_headers_that_agree(folder: Path) -> None:
    for name in ("d.mha", "x.mha"):
        _image(folder / name, (60, 80), (1.0, 1.0))
    source = _source(_write(folder, "a,p,x.mha,d.mha,none,0.7,\n"))
    assert source.load(source.cases()[0]).spacing == (0.7, 0.7)


def test_a_lesion_outside_the_grid_is_refused(folder: Path) -> None:
    _image(folder / "d.mha", (20, 20), (1.0, 1.0))
    mask = np.zeros((80, 80), np.uint8)
    mask[:4, :4] = 1
    write_image(folder / "m.mha", mask, (1.0, 1.0))
    source = _source(_write(folder, "a,p,,d.mha,m.mha,,\n"), on_mismatch="resample")
    with pytest.raises(DataError, match=r"m.mha: its lesions lie outside"):
        source.load(source.cases()[0])


MORE = "case,patient,xray,drr,mask,spacing,split,pairing,mask_kind,reader\n"


def test_pairing_mask_kind_and_reader_are_told(folder: Path) -> None:
    rows = (
        "a,p,x.png,sub/drr.png,m.png,,,unregistered,exact,majority\n"
        "b,q,x2.png,,none,,,,surrogate,\nc,r,,d2.png,none,,,same,,\nd,s,x3.png,d3.png,none,,,,,\n"
    )
    source = _source(_write(folder, rows, MORE))
    assert source.problems() == []
    told = [(case.pairing, case.mask_kind, case.reader) for case in source.cases()]
    assert told == [
        ("unregistered", "exact", "majority"),
        ("unpaired", "surrogate", None),
        ("same", None, None),
        (None, None, None),
    ]
    assert source.record["pairing"] == {"unregistered": 1, "unpaired": 1, "same": 1, "unstated": 1}
    assert source.record["mask_kind"] == {"exact": 1, "surrogate": 1, "unstated": 2}


def test_a_pairing_that_does_not_fit_its_images(folder: Path) -> None:
    rows = (
        "a,p,x.png,,none,,,registered,,\nb,q,,sub/drr.png,none,,,unpaired,,\n"
        "c,r,x.png,sub/drr.png,none,,,same,,\nd,s,x.png,sub/drr.png,none,,,paired,,\n"
        "e,t,x.png,sub/drr.png,none,,,,rough,\n"
    )
    problems = _source(_write(folder, rows, MORE)).problems()
    assert len(problems) == 5
    assert "pairing is registered, but the row gives one image (unpaired)" in problems[0]
    assert "pairing is unpaired, but the row gives one image (same)" in problems[1]
    assert "pairing is same, but the row gives an X-ray and a DRR" in problems[2]
    assert "pairing is 'paired'; use same, registered, unregistered, unpaired" in problems[3]
    assert "mask_kind is 'rough'; use exact or surrogate" in problems[4]


def test_unlabelled_cases_are_listed_apart_and_refused_where_a_mask_is_needed(
    folder: Path,
) -> None:
    pixels = _image(folder / "u.png")
    rows = "a,p,x.png,sub/drr.png,m.png,,,,,\nu,v,u.png,,unlabelled,0.5,,,,\n"
    source = _source(_write(folder, rows, MORE))
    assert [case.case_id for case in source.cases()] == ["a"]
    (case,) = unlabelled_cases(source)
    assert (case.case_id, case.labelled, case.pairing, case.mask) == ("u", False, "unpaired", None)
    picture = source.load_unlabelled(case)
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.spacing == (0.5, 0.5)
    with pytest.raises(DataError, match=r"u.png: is unlabelled, and a mask is needed here"):
        source.load(case)
    assert source.record["n_unlabelled"] == 1
    only = _source(_write(folder, "u,v,u.png,,unlabelled,,,,,\n", MORE))
    with pytest.raises(DataError, match="no case has a mask: its 1 cases are unlabelled"):
        sound_cases(only)
