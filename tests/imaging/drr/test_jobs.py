"""Which CTs, which masks, and what they are called."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from attnseg.common.errors import ConfigError, DataError
from attnseg.config import DrrConfig
from attnseg.config.compose import compose_checked
from attnseg.imaging.drr.jobs import Found, find_jobs, fingerprint
from attnseg.imaging.drr.patients import Naming
from tests.imaging.drr.helpers import chest, write_series

HU, _ = chest((4, 10, 12))


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def _find(ct: object, mask: object = None, *overrides: str) -> Found:
    words = [f"ct={ct}", f"mask={mask}" if mask is not None else "mask=null", "out=o", *overrides]
    return find_jobs(compose_checked("drr", words, DrrConfig))


def test_masks_go_with_the_cts_whose_names_they_begin_with(tmp_path: Path) -> None:
    cts = _touch(tmp_path / "ct", "p1_ct.nii.gz", "p1_b.nii", "deep/p2.mha", "notes.txt")
    masks = _touch(
        tmp_path / "mask", "p1_nodules.nrrd", "p1_b-mask.nii.gz", "deep/p2.mha", "p12.nii"
    )
    found = _find(cts, masks)
    pairs = {job.case: job.mask and job.mask.name for job in found.jobs}
    assert pairs == {"p1": "p1_nodules.nrrd", "p1_b": "p1_b-mask.nii.gz", "deep__p2": "p2.mha"}
    assert len(found.problems) == 1
    assert "p12.nii: a mask without a CT" in found.problems[0]


def test_a_folder_of_both_is_told_apart_by_globs(tmp_path: Path) -> None:
    _touch(tmp_path, "a_ct.nii.gz", "a_nodules.nii.gz", "b_ct.nii.gz", "b_nodules.nii.gz")
    found = _find(f"{tmp_path}/*_ct.nii.gz", f"{tmp_path}/*.nii.gz")
    assert [(job.case, job.mask and job.mask.name) for job in found.jobs] == [
        ("a", "a_nodules.nii.gz"),
        ("b", "b_nodules.nii.gz"),
    ]
    assert not found.problems
    assert not found.single


def test_one_ct_takes_one_mask_of_any_name(tmp_path: Path) -> None:
    _touch(tmp_path, "scan.nii", "other.nii")
    found = _find(tmp_path / "scan.nii", tmp_path / "other.nii")
    assert found.single
    assert found.jobs[0].mask == tmp_path / "other.nii"


@pytest.mark.parametrize(
    ("rule", "n_jobs", "healthy"), [("refuse", 1, False), ("unknown", 2, False), ("none", 2, True)]
)
def test_a_ct_without_a_mask(tmp_path: Path, rule: str, n_jobs: int, healthy: bool) -> None:
    cts = _touch(tmp_path / "ct", "a.nii", "b.nii")
    masks = _touch(tmp_path / "mask", "a.nii")
    found = _find(cts, masks, f"masks.missing={rule}")
    assert len(found.jobs) == n_jobs
    assert bool(found.problems) == (n_jobs == 1)
    assert [job.healthy for job in found.jobs][1:] == [healthy][: n_jobs - 1]


def test_two_masks_for_a_ct_are_a_problem(tmp_path: Path) -> None:
    cts = _touch(tmp_path / "ct", "a.nii")
    masks = _touch(tmp_path / "mask", "a_1.nii", "a_2.nii")
    (problem,) = _find(cts, masks).problems
    assert "several masks (a_1.nii and a_2.nii)" in problem


def test_series_are_found_at_any_depth(tmp_path: Path) -> None:
    write_series(tmp_path / "p1" / "study" / "series", HU, tags={"0010|0020": ""})
    write_series(tmp_path / "p2", HU, tags={"0010|0020": ""})
    _touch(tmp_path, "p3.nrrd", ".hidden/p4.nrrd")
    assert [job.case for job in _find(tmp_path).jobs] == ["p1__study__series", "p2", "p3"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: f / "nothing", "no such file or folder"),
        (lambda f: f, "holds no volume"),
        (lambda f: f / "*.nii", "matches no volume"),
    ],
)
def test_nothing_to_project(tmp_path: Path, make: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _find(make(tmp_path))  # type: ignore[operator]
    _touch(tmp_path / "ct", "a.nii")
    (tmp_path / "m").mkdir()
    with pytest.raises(ConfigError, match=f"mask=.*{words}"):
        _find(tmp_path / "ct", make(tmp_path / "m"))  # type: ignore[operator]


def test_two_cts_of_one_name_are_refused(tmp_path: Path) -> None:
    cts = _touch(tmp_path, "a.nii", "a_ct.nii.gz")
    with pytest.raises(DataError, match="would both be case a"):
        _find(cts)


def test_patients_come_from_the_header_and_are_hidden(tmp_path: Path) -> None:
    write_series(tmp_path / "scan7", HU)
    write_series(tmp_path / "scan8", HU + 1)
    one, other = _find(tmp_path).jobs
    assert one.patient == other.patient
    assert re.fullmatch(r"patient-[0-9a-f]{12}", one.patient)
    assert [one.case, other.case] == ["scan7", "scan8"]
    shown, _ = _find(tmp_path, None, "patient=header").jobs
    assert shown.patient == "PID-4711"


@pytest.mark.parametrize("name", ["mustermann_2020", "PID-4711", "x-Erika-y"])
def test_folders_named_after_the_patient_are_renamed(tmp_path: Path, name: str) -> None:
    write_series(tmp_path / name, HU)
    (job,) = _find(tmp_path / name).jobs
    assert re.fullmatch(r"case-[0-9a-f]{12}", job.case)
    assert job.patient.startswith("patient-")
    (shown,) = _find(tmp_path / name, None, "patient=header").jobs
    assert shown.case == name


def test_a_file_of_dicom_has_a_header_too(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", HU)
    file = sorted((tmp_path / "scan").iterdir())[0].rename(tmp_path / "enhanced.dcm")
    (job,) = _find(file).jobs
    assert job.case == "enhanced"
    assert job.patient.startswith("patient-")


def test_another_key_gives_other_pseudonyms(tmp_path: Path) -> None:
    write_series(tmp_path / "scan", HU)
    names = [
        Naming(key, None).names("scan", tmp_path / "scan")[1] for key in (b"a" * 16, b"b" * 16)
    ]
    assert names[0] != names[1]


def test_the_key_is_made_once_and_for_its_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    write_series(tmp_path / "scan", HU)
    first = _find(tmp_path / "scan").jobs[0].patient
    key = tmp_path / "home" / "attnseg" / "pseudonym.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert _find(tmp_path / "scan").jobs[0].patient == first
    (tmp_path / "own.key").write_text("k" * 40)
    own = _find(tmp_path / "scan", None, f"patient_key={tmp_path / 'own.key'}").jobs[0].patient
    assert own != first
    for bad in ("short", None):
        path = tmp_path / "bad.key"
        path.unlink(missing_ok=True)
        if bad is not None:
            path.write_text(bad)
        with pytest.raises(ConfigError, match="key"):
            _find(tmp_path / "scan", None, f"patient_key={path}")


def test_a_pattern_finds_the_patient_in_the_name(tmp_path: Path) -> None:
    cts = _touch(tmp_path, "LIDC-IDRI-0001_a.nii", "LIDC-IDRI-0001_b.nii", "other.nii")
    found = _find(cts, None, "patient_pattern='LIDC-IDRI-[0-9]+'")
    assert [job.patient for job in found.jobs] == ["LIDC-IDRI-0001"] * 2
    assert "other: patient_pattern finds no patient" in found.problems[0]


def test_the_fingerprint_is_of_every_file(tmp_path: Path) -> None:
    _touch(tmp_path, "a.mhd", "a.raw", "m.nii", "series/1.dcm", "series/2.dcm")
    before = fingerprint(tmp_path / "a.mhd", tmp_path / "m.nii")
    assert fingerprint(tmp_path / "a.mhd", tmp_path / "m.nii") == before
    assert fingerprint(tmp_path / "a.mhd", None) != before
    (tmp_path / "a.raw").write_text("longer")
    assert fingerprint(tmp_path / "a.mhd", tmp_path / "m.nii") != before
    series = fingerprint(tmp_path / "series")
    (tmp_path / "series" / "2.dcm").write_text("longer")
    assert fingerprint(tmp_path / "series") != series
