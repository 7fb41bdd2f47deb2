"""The picture of the FROC curve."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.reports import froc
from attnseg.reports.froc import draw_froc

LESIONS = "case_id,diameter_px,score\n"
CANDIDATES = "case_id,score,lesions\n"


def test_it_is_drawn_by_size_from_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}

    def keep(figure: object, path: Path) -> Path:
        [axes] = figure.axes  # type: ignore[attr-defined]
        drawn.update({line.get_label(): line.get_ydata() for line in axes.lines})
        return path

    monkeypatch.setattr(froc, "save_png", keep)
    (tmp_path / "gt_lesions.csv").write_text(LESIONS + "a,10,\na,20,0.6\nb,40,0.9\nb,20,0.3\n")
    (tmp_path / "candidates.csv").write_text(CANDIDATES + "a,0.9,1\na,0.7,\nb,0.5,\nb,0.2,\n")
    assert draw_froc(tmp_path, n_images=2) == tmp_path / "froc.png"
    assert list(drawn) == ["all (4)", "above 32 px (1)", "16 to 32 px (2)", "below 16 px (1)"]
    ends = {name: (values[0], values[-1]) for name, values in drawn.items()}
    assert ends["all (4)"] == (0.25, 0.75)
    assert ends["above 32 px (1)"] == (1.0, 1.0)
    assert ends["16 to 32 px (2)"] == (0.0, 1.0)
    assert ends["below 16 px (1)"] == (0.0, 0.0)


def test_without_a_lesion_there_is_no_curve(tmp_path: Path) -> None:
    (tmp_path / "gt_lesions.csv").write_text(LESIONS)
    (tmp_path / "candidates.csv").write_text(CANDIDATES + "a,0.7,\n")
    (tmp_path / "froc.png").write_bytes(b"of an earlier measurement")
    assert draw_froc(tmp_path, n_images=2) is None
    assert not (tmp_path / "froc.png").exists()
