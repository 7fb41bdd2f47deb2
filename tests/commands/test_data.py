"""`attnseg data check|show`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from attnseg.cli import main
from tests.imaging.annotations.formats import lidc_xml, node21, nodule, ring, roi

PHANTOM = ("data=phantom", "data.n_cases=3", "data.size=64")


def test_check_of_a_sound_set_finds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", *PHANTOM]) == 0
    assert "phantom: 0 errors" in capsys.readouterr().out


def test_check_lists_everything_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("case,patient,xray,drr,mask\na,p,x.png,d.png,m.png\nb,q,y.png,e.png,n.png\n")
    assert main(["data", "check", "data=manifest", f"data.root={table}"]) == 1
    text = capsys.readouterr().out
    for name in ("x.png", "d.png", "m.png", "y.png", "e.png", "n.png"):
        assert name in text


def test_show_draws_a_sheet(tmp_path: Path) -> None:
    assert main(["data", "show", *PHANTOM, f"output_dir={tmp_path}", "n_cases=2"]) == 0
    assert (tmp_path / "phantom-all.png").is_file()


def test_an_unknown_action_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "chekc"]) == 2
    assert "attnseg data check" in capsys.readouterr().err


def test_the_real_set_is_sound(lidc_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "data=lidc_drr", f"data.root={lidc_root}"]) == 0
    assert "lidc_drr: 0 errors" in capsys.readouterr().out


def test_a_sheet_that_cannot_be_written_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["data", "show", *PHANTOM, f"output_dir={tmp_path / 'file'}"]) == 2
    assert "output_dir=" in capsys.readouterr().err


def test_build_makes_a_set_that_check_finds_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = node21(tmp_path / "node21", n=8), tmp_path / "a set, with signs=odd"
    assert main(["data", "build", f"source={source}", f"out='{out}'", "license='CC BY 4.0'"]) == 0
    text = capsys.readouterr().out
    assert "8 cases of 8 patients" in text
    assert f"{out}/manifest.csv" in text
    assert "CC BY 4.0" in (out / "DATA_CARD.md").read_text()
    assert main(["data", "check", "data=manifest", f"data.root={out}", "data.size=64"]) == 0
    assert "manifest: 0 errors" in capsys.readouterr().out
    assert main(["data", "build", f"source={source}", f"out='{out}'"]) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build"], "source is not set"),
        (["build", "source=/does/not/exist", "out=x"], "no such file or folder"),
        (["build", "source=phantom"], "out is not set"),
        (["build", "source=phantom", "out=x", "images=move"], "images"),
        (["build", "source=phantom", "out=x", "licence=MIT"], "did you mean 'license'?"),
        (["mask"], "is not set, and is needed"),
        (["mask", "annotations=/no.xml", "ct=/no.nii", "out=x"], "annotations=/no.xml: no such"),
        (["mask", "annotations=a", "ct=b", "out=x", "findings=[tumour]"], "findings"),
    ],
)
def test_a_mistake_in_build_or_mask_is_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_mask_writes_a_volume_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = sitk.GetImageFromArray(np.zeros((6, 20, 24), np.int16))
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    marks = nodule("a", roi(2.0, ring(3, 3, 9, 9)))
    xml = lidc_xml(tmp_path / "a.xml", marks, marks)
    out = tmp_path / "m.nii.gz"
    words = [f"annotations={xml}", f"ct={tmp_path / 'ct.nii.gz'}", f"out={out}"]
    assert main(["data", "mask", *words, "readers=2"]) == 0
    assert f"mask volume: {out} (1 nodules, 25 voxels, readers=2)" in capsys.readouterr().out
    assert main(["data", "mask", *words, "readers=3"]) == 2
    assert "has 2 readers; no voxel could reach that level" in capsys.readouterr().err


def test_help_names_every_action(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("check", "show", "build", "mask", "jsrt", "node21", "chestx_det"):
        assert word in text
