"""The pages: complete, self-contained, escaped, and made of whatever is there."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from attnseg.common.errors import DataError
from attnseg.reports import page as page_module
from attnseg.reports.diagnosis import Finding, diagnose
from attnseg.reports.overlays import draw_overlay
from attnseg.reports.page import write_analysis_report, write_run_report
from attnseg.reports.style import new_figure, save_png

from .fakes import case_rows, negative_rows, overlay_case, run_folder, summary_of

VOID = {"meta", "img", "br", "wbr"}


@pytest.fixture(autouse=True)
def _quick_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The curves have tests of their own: here a dot stands for them, but in one test."""
    if request.function is test_run_page_has_every_part:
        return

    def draw(ledger: Path, path: Path, title: str) -> Path:
        figure = new_figure(0.5, 0.5)
        return save_png(figure, path)

    monkeypatch.setattr(page_module, "draw_curves", draw)


class Page(HTMLParser):
    """Visible text and attributes of a page, checking that tags close in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(path.read_text())
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def measured(folder: Path, rows: list[dict[str, Any]], **more: Any) -> list[Finding]:
    """A folder as `attnseg evaluate` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = (
        summary_of(rows) | {"split": "val", "data": {"name": "lidc_drr", "xray": "same"}} | more
    )
    (folder / "metrics.json").write_text(json.dumps(summary))
    with (folder / "cases.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return diagnose(summary, rows)


def test_run_page_has_every_part(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", 9)
    for epoch in (2, 10):
        draw_overlay(overlay_case(0), run / "report" / "overlays" / f"epoch-{epoch:04d}.png")
    page = write_run_report(run)
    assert page == run / "report" / "report.html"
    assert (run / "report" / "curves.png").is_file()
    seen = Page(page)
    for expected in (
        "phantom-dual_pathway-anatomical-two_phase-s1",
        "0a1b2c3d",
        "finished",
        "0.661 in epoch 6",
        "X-ray pathway the DRR itself",
        "96 items",
        "validation split, 24 cases (20 with a lesion)",
        "best: epoch 6",
        "last: epoch 9",
        "attention supervision (1–3)",
        "joint (4–9)",
        "Cases of the validation split: epoch 10",
        "name: two_phase",
    ):
        assert expected in seen.text, expected
    images = [value for tag, name, value in seen.attributes if (tag, name) == ("img", "src")]
    assert len(images) == 3


def test_targets_are_judged(tmp_path: Path) -> None:
    page = write_run_report(run_folder(tmp_path / "run", 9))
    last = re.search(r"<td>attention_gt_overlap</td>.*?</tr>", page.read_text(), re.S)
    assert last
    best_cell, last_cell = re.findall(r'<td class="(good|bad)">(.*?)</td>', last[0])
    assert best_cell[0] == ("good" if float(best_cell[1].split()[0]) > 0.6 else "bad")
    assert "✓" in last_cell[1]
    early = write_run_report(run_folder(tmp_path / "early", 1)).read_text()
    assert early.count('class="bad"') >= 4
    assert "✗" in early


def test_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", 3)
    seen = Page(write_run_report(run))
    assert not {"script", "link", "iframe"} & seen.tags
    for tag, name, value in seen.attributes:
        if name in ("src", "href"):
            assert value.startswith("data:image/"), (tag, value[:60])


def test_everything_is_escaped(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", 2)
    evil = "<script>alert(1)</script>"
    status = json.loads((run / "status.json").read_text())
    status |= {"name": evil, "state": evil, "reason": evil, "data": {evil: evil}}
    (run / "status.json").write_text(json.dumps(status))
    (run / "config.yaml").write_text(f"name: '{evil}'\n")
    ledger = (run / "metrics.csv").read_text().replace("joint", evil)
    (run / "metrics.csv").write_text(ledger.replace("lr/head", f"lr/{evil}"))
    seen = Page(write_run_report(run))
    assert "script" not in seen.tags
    assert seen.text.count(evil) > 5


@pytest.mark.parametrize("missing", ["config.yaml", "status.json", "metrics.csv"])
def test_a_part_that_is_missing_is_left_out(tmp_path: Path, missing: str) -> None:
    run = run_folder(tmp_path / "run", 2)
    (run / missing).unlink()
    seen = Page(write_run_report(run))
    said = {
        "config.yaml": "not recorded",
        "status.json": "run unknown",
        "metrics.csv": "No epoch finished",
    }
    assert said[missing] in seen.text


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "status.json").write_text(
        json.dumps({"state": "failed", "reason": "attention/bce is NaN in case 7", "best": None})
    )
    seen = Page(write_run_report(run))
    assert "attention/bce is NaN in case 7" in seen.text
    assert "failed" in seen.text


def test_a_broken_status_does_not_cost_the_page(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", 2)
    (run / "status.json").write_text('{"name": "half')
    assert "last: epoch 2" in Page(write_run_report(run)).text


def test_many_pictures_are_thinned_and_the_last_is_kept(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", 1)
    folder = run / "report" / "overlays"
    draw_overlay(overlay_case(0), folder / "epoch-1.png")
    for epoch in range(2, 21):
        (folder / f"epoch-{epoch}.png").write_bytes((folder / "epoch-1.png").read_bytes())
    seen = Page(write_run_report(run))
    names = [v for tag, name, v in seen.attributes if (tag, name) == ("img", "alt")]
    assert names == ["curves", "epoch 20", "epoch 16", "epoch 12", "epoch 8", "epoch 4"]
    assert "15 more in report/overlays" in seen.text


def test_no_folder_no_page(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        write_run_report(tmp_path / "absent")
    with pytest.raises(DataError, match="nothing was measured"):
        write_analysis_report(tmp_path, [])


def test_analysis_page(tmp_path: Path) -> None:
    wrong = {"attention_gt_overlap": 0.1, "attention_seg_overlap": 0.6, "seg_gt_overlap": 0.2}
    rows = case_rows(12) + case_rows(8, seed=1, dice=0.05, **wrong) + negative_rows(2, 0)
    findings = measured(tmp_path, rows)
    for name in ("best", "worst"):
        draw_overlay(overlay_case(0), tmp_path / "overlays" / f"{name}.png")
    page = write_analysis_report(tmp_path, findings)
    assert page == tmp_path / "analysis.html"
    seen = Page(page)
    for expected in (
        "Segmentation follows attention to the wrong place critical",
        "In 8 of 20 positive cases",
        "Try: Mend the attention first",
        "validation split, 22 cases (20 with a lesion)",
        "segmentation follows attention that misses the lesion 8 36 %",
        "Worst cases",
        "X-ray pathway the DRR itself",
    ):
        assert expected in seen.text, expected
    alts = [value for tag, name, value in seen.attributes if (tag, name) == ("img", "alt")]
    assert alts == ["cases", "worst", "best"]
    saved = json.loads((tmp_path / "findings.json").read_text())
    assert [finding["code"] for finding in saved] == [finding.code for finding in findings]


def test_analysis_of_a_model_without_attention(tmp_path: Path) -> None:
    rows = [
        {name: value for name, value in row.items() if not name.startswith(("attention", "nss"))}
        for row in case_rows(10)
    ]
    seen = Page(
        write_analysis_report(tmp_path, measured(tmp_path, rows, attention_gt_overlap=None))
    )
    assert "The model has no attention map" in seen.text
    assert "no attention map; segmentation finds the lesion 10 100 %" in seen.text
    assert not (tmp_path / "cases.png").exists(), "a chart of nothing"
