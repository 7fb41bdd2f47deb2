"""`attnseg report`, and the report that a kill has cut short."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from attnseg.cli import main
from attnseg.reports import page as module
from attnseg.runs.folder import RunFolder
from attnseg.training.fit import fit
from tests.conftest import configure
from tests.reports.compare.fakes import fake_run
from tests.sweeps.helpers import sweep

Capture = pytest.CaptureFixture[str]


class Killed(BaseException):
    """As good as SIGKILL, where nothing is cleaned up behind it."""


def test_a_report_at_any_time_from_files_alone(tmp_path: Path, capsys: Capture) -> None:
    fake_run(tmp_path / "a", "seed=1")
    fake_run(tmp_path / "b é [1]", "seed=2", state="failed", reason="no memory", epochs=2)
    fake_run(tmp_path / "c", "seed=3", state="running", epochs=0)
    assert main(["report", str(tmp_path)]) == 0
    pages = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert pages == [tmp_path / name / "report" / "report.html" for name in ("a", "b é [1]", "c")]
    assert "no memory" in pages[1].read_text()
    assert "crashed" in pages[2].read_text()
    pages[0].unlink()
    assert main(["report", str(tmp_path / "a")]) == 0
    assert pages[0].is_file()


def test_a_sweep_names_its_runs(tmp_path: Path, capsys: Capture) -> None:
    fake_run(tmp_path / "a", "seed=1")
    (tmp_path / "sweep").mkdir()
    jobs = [{"name": n, "run_dir": f"../{n}", "state": "finished"} for n in ("a", "lost")]
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"name": "s", "jobs": jobs}))
    assert main(["report", str(tmp_path / "sweep")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(tmp_path / "a" / "report" / "report.html")]
    assert "lost: gone, there is nothing to report of" in err


def test_what_is_damaged_is_told_and_stops_no_other(tmp_path: Path, capsys: Capture) -> None:
    for name in "ab":
        fake_run(tmp_path / name)
    ledger = tmp_path / "b" / "metrics.csv"
    ledger.write_bytes(ledger.read_bytes()[:-30])
    assert main(["report", str(tmp_path / "b"), str(tmp_path / "a")]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert "line 5 is cut off or damaged" in err
    ledger.write_text("no ledger")
    assert main(["report", str(tmp_path / "b"), str(tmp_path / "a")]) == 1
    assert "not a ledger" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["absent"], "no such folder"),
        (["split=test"], "report takes run folders alone"),
        (["."], "holds none"),
    ],
)
def test_a_users_mistake_is_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    words: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 2
    assert reason in capsys.readouterr().err


def test_a_report_that_a_kill_cut_short_is_written_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: RunFolder
) -> None:
    folder = RunFolder(tmp_path / "run")
    config = configure(folder.path, "logger=none")

    def die(*arguments: Any) -> Path:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "render", die)
        with pytest.raises(Killed):
            fit(config)
    assert folder.read_status()["state"] == "finished"
    assert not folder.page.exists()
    before = folder.last.stat().st_mtime_ns
    assert fit(config) == 0
    assert folder.page.is_file()
    assert folder.read_status()["report"] == "written"
    assert folder.last.stat().st_mtime_ns == before
    written = folder.page.stat().st_mtime_ns
    assert fit(config) == 0
    assert folder.page.stat().st_mtime_ns == written, "once is enough"
    folder.update_status(report="pending")  # an older page is there: of a shorter training, say
    assert main(["report", str(folder.path)]) == 0
    assert folder.read_status()["report"] == "written"


def test_a_report_that_fails_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: RunFolder, capsys: Capture
) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(finished.path, folder.path)
    folder.page.unlink()

    def fail(*arguments: Any) -> Path:
        raise ValueError("no font")

    monkeypatch.setattr(module, "render", fail)
    assert fit(configure(folder.path)) == 0
    assert "the report could not be written (no font); attnseg report" in capsys.readouterr().out
    assert folder.read_status()["state"] == "finished"


def test_a_sweep_writes_the_reports_that_are_lacking(tmp_path: Path) -> None:
    words = ("seed=4", "logger=none")
    assert sweep(tmp_path, *words) == 0
    (name,) = [path.name for path in tmp_path.iterdir() if path.name != "sweeps"]
    folder = RunFolder(tmp_path / name)
    assert folder.page.is_file()
    before = folder.last.stat().st_mtime_ns
    folder.page.unlink()
    folder.update_status(report="pending")
    assert sweep(tmp_path, *words) == 0
    assert folder.page.is_file()
    assert folder.last.stat().st_mtime_ns == before
