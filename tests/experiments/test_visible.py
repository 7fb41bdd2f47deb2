"""What is found, by what can be seen: the study's table of lesions joined with evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.lidc_drr import visible

STUDY = """case,n_pixels,diameter_px,subtlety,texture,beats
a,200,16,5,5,0.95
a,50,8,5,5,0.5
b,400,22,2,,0.2
"""
LESIONS = """case_id,lesion,n_pixels,score
a,1,200,0.6
a,2,50,0.9
b,1,400,
"""
CANDIDATES = "case_id,score,lesions\na,0.9,2\na,0.6,1\na,0.8,\nb,0.7,\nb,0.65,\n"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "study.csv").write_text(STUDY)
    (tmp_path / "gt_lesions.csv").write_text(LESIONS)
    (tmp_path / "candidates.csv").write_text(CANDIDATES)
    (tmp_path / "metrics.json").write_text('{"n_cases": 2}')
    words = ["visible.py", str(tmp_path / "study.csv"), str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    return words


def test_lesions_are_counted_by_group(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    visible.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[2] == "| all | 2 | 0.00 | 0.38 |"  # 0.6 is found from 2 an image
    assert "| diameter, px: 14 to 20 | 1 | 0.00 | 0.75 |" in printed
    assert "| diameter, px: 20 to 30 | 1 | 0.00 | 0.00 |" in printed
    assert sum("texture" in line for line in printed) == 1  # one is not known


def test_smaller_ones_count_where_asked(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["--diameter", "0"]
    visible.main()
    assert capsys.readouterr().out.splitlines()[2] == "| all | 3 | 0.33 | 0.58 |"


def test_ratings_may_be_missing_but_not_all_lesions(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = "\n".join(",".join(line.split(",")[:3]) for line in STUDY.splitlines())
    (tmp_path / "study.csv").write_text(study + "\n")
    visible.main()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[3:]] == [
        "| diameter, px",
        "| diameter, px",
    ]
    words += ["--diameter", "400"]
    with pytest.raises(SystemExit, match="none of the 3 lesions is of 400 px"):
        visible.main()


def test_other_lesions_are_refused(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "gt_lesions.csv").write_text(LESIONS.replace("400", "401"))
    with pytest.raises(SystemExit, match=r"lesion 1 of b is not the study's.*data\.size=512"):
        visible.main()
