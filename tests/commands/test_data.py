"""`attnseg data check|show`."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.cli import main

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
