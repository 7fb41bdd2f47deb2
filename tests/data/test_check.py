from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnseg.common.errors import ConfigError
from attnseg.data.check import check_data, report_on
from attnseg.data.findings import Finding
from attnseg.data.sources.lidc_drr import LidcDrrSource
from attnseg.data.spelling import shown
from attnseg.imaging.images import write_image
from tests.conftest import data_section
from tests.hostile import BOMBS, SIDE, named

Folder = Callable[..., Path]


def _check(root: Path, **options: Any) -> list[Finding]:
    config = data_section(name="lidc_drr", root=str(root), **{"size": 64, **options})
    return check_data(config, workers=0, progress=False)


def _messages(findings: list[Finding], level: str) -> list[str]:
    return [finding.message for finding in findings if finding.level == level]


def _drr(root: Path, number: int) -> Path:
    return next(root.rglob(f"LIDC-IDRI-{number:04d}*_drr.png"))


def _mask(root: Path, number: int) -> Path:
    return next(root.rglob(f"LIDC-IDRI-{number:04d}*_drr_mask.png"))


def test_a_sound_set_has_no_findings(lidc_folder: Folder) -> None:
    assert _check(lidc_folder(6)) == []


def test_everything_wrong_is_listed_at_once(lidc_folder: Folder) -> None:
    root = lidc_folder(12)
    _mask(root, 1).unlink()
    _drr(root, 2).write_bytes(_drr(root, 2).read_bytes()[:300])
    _mask(root, 3).write_text("not an image")
    write_image(_mask(root, 4), np.zeros((20, 32), np.uint8))
    write_image(_mask(root, 5), np.arange(40 * 64, dtype=np.uint8).reshape(40, 64))
    write_image(_drr(root, 6), np.full((40, 64), 9, np.uint8))
    (root / "x").mkdir()
    _drr(root, 8).rename(root / "x" / _drr(root, 7).name)
    findings = _check(root)
    errors = _messages(findings, "error")
    wanted = [
        ("0007", "duplicate case"),
        ("0008", "a mask without its DRR"),
        ("0001", "missing mask"),
        ("0002", "cannot be decoded"),
        ("0003", "cannot be decoded"),
        ("0004", "20 x 32 px, but its DRR has 40 x 64"),
        ("0005", "not a binary mask"),
        ("0006", "every pixel is 9"),
    ]
    assert len(errors) == len(wanted)
    for message, (case, what) in zip(errors, wanted, strict=True):
        assert case in message
        assert what in message
    assert findings == _check(root)
    assert str(findings[0]).startswith("error: ")


def test_the_same_pixels_under_two_patients_leak(lidc_folder: Folder) -> None:
    root = lidc_folder(6)
    _drr(root, 3).write_bytes(_drr(root, 1).read_bytes())
    (message,) = _messages(_check(root), "error")
    assert "LIDC-IDRI-0001" in message
    assert "LIDC-IDRI-0003" in message
    assert "leak" in message


@pytest.mark.parametrize("patients", [("PAT1", "pat1"), ("01", "1"), ("a\u00a0b", "ab")])
def test_ids_that_look_the_same_are_named(patients: tuple[str, str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["case,patient,xray,drr,mask,split"]
    for i, patient in enumerate([*patients, "x", "y", "z"]):
        write_image(tmp_path / f"{i}.png", rng.integers(0, 255, (64, 64)).astype(np.uint8))
        lines.append(f"c{i},{patient},,{i}.png,none,{'val' if i == 1 else 'train'}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    for kind, level in (("fixed", "error"), ("random", "warning")):
        split = {"kind": kind, "val_fraction": 0.0}
        config = data_section(name="manifest", root=str(tmp_path), size=64, split=split)  # type: ignore[arg-type]
        found = _messages(check_data(config, workers=0, progress=False), level)
        (message,) = [line for line in found if "invisible" in line]
        assert all(shown(patient) in message for patient in patients)


def test_the_same_picture_is_found_in_other_clothes(tmp_path: Path) -> None:
    """As 16 bit, and where the X-rays alone are equal."""
    rng = np.random.default_rng(0)
    pictures = {f"{kind}{i}": rng.integers(0, 255, (64, 64)) for kind in "xd" for i in range(6)}
    pictures["d2"] = pictures["d1"] * 257
    pictures["x4"] = pictures["x3"]
    lines = ["case,patient,xray,drr,mask"]
    for name, pixels in pictures.items():
        dtype = np.uint16 if pixels.max() > 255 else np.uint8
        write_image(tmp_path / f"{name}.png", pixels.astype(dtype))
    lines += [f"c{i},p{i},x{i}.png,d{i}.png,none" for i in range(6)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    config = data_section(name="manifest", root=str(tmp_path), size=32)
    errors = _messages(check_data(config, workers=0, progress=False), "error")
    found = [line for line in errors if "leak" in line]
    assert len(found) == 2
    assert "c1" in found[0] and "c2" in found[0] and "same DRR pixels" in found[0]
    assert "c3" in found[1] and "c4" in found[1] and "same X-ray pixels" in found[1]


def test_it_ends_with_what_the_set_is(lidc_folder: Folder) -> None:
    config = data_section(name="lidc_drr", root=str(lidc_folder(6)), size=64)
    assert report_on(config, workers=0, progress=False).summary == [
        "cases:    6 of 6 patients, 5 of them positive",
        "sizes:    40 x 64 px (6)",
        "spacing:  0.1 to 0.9 mm a pixel, median 0.65",
    ]


def test_a_patient_in_two_splits_is_an_error(lidc_folder: Folder, tmp_path: Path) -> None:
    rows = [f"LIDC-IDRI-{i:04d},{'val' if i == 2 else 'train'}" for i in range(1, 7)]
    (tmp_path / "s.csv").write_text("\n".join(["patient,split", *rows, "LIDC-IDRI-0004,test"]))
    split = {"kind": "fixed", "file": str(tmp_path / "s.csv")}
    (message,) = _messages(_check(lidc_folder(6), split=split), "error")
    assert message == "patient LIDC-IDRI-0004: in test and train; give the patient one split"


def test_an_empty_set_and_a_missing_one(tmp_path: Path) -> None:
    (message,) = _messages(_check(tmp_path), "error")
    assert "no *_drr.png below this folder" in message
    with pytest.raises(ConfigError, match=r"data\.root"):
        _check(tmp_path / "none")


def test_no_lesion_to_learn_from_is_an_error(lidc_folder: Folder) -> None:
    root = lidc_folder(4)
    for number in range(1, 5):
        write_image(_mask(root, number), np.zeros((40, 64), np.uint8))
    findings = _check(root)
    assert "no case of the train split has a lesion" in _messages(findings, "error")[0]
    assert "no case of the val split has a lesion" in _messages(findings, "warning")[0]


def test_what_makes_results_doubtful_is_a_warning(lidc_folder: Folder) -> None:
    root = lidc_folder(6)
    text = (root.parent / "scans.csv").read_text()
    (root.parent / "scans.csv").write_text(text.replace(",0.7", ",70").replace(",0.8", ","))
    inverted = np.full((40, 64), 255, np.uint8)
    inverted[5:9, 5:9] = 0
    write_image(_mask(root, 5), inverted)
    findings = _check(root, size=128)
    warnings = _messages(findings, "warning")
    assert len(warnings) == 4
    assert "covers 99% of the image; is it inverted?" in warnings[0]
    assert "spacing is unknown for 1 of 6 cases (LIDC-IDRI-0004" in warnings[1]
    assert "a pixel of 70 x 70 mm is implausible" in warnings[2]
    assert "data.size=128 scales up 6 of 6 cases" in warnings[3]
    assert len(_messages(findings, "error")) == 1  # scans.csv names no spacing for 0004


def test_a_manifest_is_checked_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "ab":
        pixels = rng.random((64, 64)).astype(np.float32)
        if name == "b":
            pixels[0, 0] = np.nan
        write_image(tmp_path / f"{name}.mha", pixels, (0.7, 0.7))
    mask = np.zeros((64, 64), np.uint8)
    mask[4:9, 4:9] = 1
    write_image(tmp_path / "m.mha", mask, (0.7, 0.7))
    (tmp_path / "manifest.csv").write_text(
        "case,patient,xray,drr,mask,split\n"
        "1,p,,a.mha,m.mha,train\n2,q,,b.mha,none,val\n3,r,,gone.png,none,val\n"
    )
    config = data_section(name="manifest", root=str(tmp_path), size=64)
    findings = check_data(config, workers=0, progress=False)
    errors = _messages(findings, "error")
    assert "b.mha: 1 pixels are NaN" in errors[0]
    assert "gone.png: no such file" in errors[1]
    assert any("data.split.kind=fixed would" in m for m in _messages(findings, "warning"))


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_real_set_is_sound_but_for_what_is_known(lidc_root: Path) -> None:
    config = data_section(name="lidc_drr", root=str(lidc_root))
    findings = check_data(config, progress=False)
    assert _messages(findings, "error") == []
    (warning,) = _messages(findings, "warning")
    assert "LIDC-IDRI-0029" in warning
    assert "LIDC-IDRI-0138" in warning
    assert "it counts twice" in warning


def test_files_of_any_name_and_claim_are_checked(lidc_folder: Folder) -> None:
    root = lidc_folder(6)
    for ending in ("_drr.png", "_drr_mask.png"):
        new = named(root, b"LIDC-IDRI-0001 \xe9", ending)
        next(root.rglob(f"LIDC-IDRI-0001*{ending}")).rename(new)
    _drr(root, 4).write_bytes(BOMBS[".png"](SIDE))
    (message,) = [m for m in _messages(_check(root), "error") if "scans.csv" not in m]
    assert "its header says 60000 x 60000 px" in message
    cases = LidcDrrSource(root=str(root)).cases()
    assert r"LIDC-IDRI-0001 \xe9" in {case.case_id for case in cases}
