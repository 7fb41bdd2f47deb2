"""`attnseg compare`: from the words to the page, on fakes; measuring, on one real run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnseg.cli import main
from attnseg.commands import compare_measure
from attnseg.reports.compare.maps import read_maps, write_maps
from attnseg.runs.checkpoints import read_checkpoint, save_checkpoint
from attnseg.runs.folder import RunFolder
from tests.reports.compare.fakes import fake_run, grid

Capture = pytest.CaptureFixture[str]
QUICK = ("split=test", "evaluate=never", "n_resamples=200", "n_cases=0")


def table(folder: Path, name: str = "compare.csv") -> list[dict[str, str]]:
    with (folder / name).open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    fake_run(tmp_path / "runs" / "a", "schedule=none", quality=0.5)
    fake_run(tmp_path / "runs" / "b", "schedule=two_phase", quality=0.8)
    return tmp_path / "runs"


def test_two_runs_become_a_page_beside_them(root: Path, capsys: Capture) -> None:
    assert main(["compare", "runs/a", "runs/b", *QUICK]) == 0
    out = root / "compare"
    assert (out / "compare.html").is_file()
    (pair, *_) = [r for r in table(out, "paired.csv") if r["metric"] == "dice"]
    assert pair["baseline"] == "schedule=none"
    assert float(pair["difference"]) > 0.1
    text = capsys.readouterr().out
    for word in ("schedule=two_phase", "dice_positive", "2 - 1", "runs/compare/compare.html"):
        assert word in text, word


def test_everything_is_chosen_by_key(root: Path, tmp_path: Path) -> None:
    words = ["baseline=schedule=two_phase", f"output_dir={tmp_path / 'o, ut'}", "confidence=0.5"]
    words += ["labels=['ours, small']", "metrics=[dice_positive,attention_gt_overlap]"]
    assert main(["compare", "runs", *QUICK, *words]) == 0
    out = tmp_path / "o, ut"
    pairs = table(out, "paired.csv")
    assert {row["baseline"] for row in pairs} == {"schedule=two_phase"}
    assert {row["group"] for row in pairs} == {"ours, small"}
    assert all(float(row["difference"]) < 0 for row in pairs)
    assert "50 % interval" in (out / "compare.html").read_text()
    narrow = [float(row["high"]) - float(row["low"]) for row in pairs]
    assert main(["compare", "runs", *QUICK, *words, "confidence=0.99"]) == 0
    wide = [float(row["high"]) - float(row["low"]) for row in table(out, "paired.csv")]
    assert all(w > n for w, n in zip(wide, narrow, strict=True))


def test_the_demos_table_is_a_comparisons(root: Path) -> None:
    assert main(["compare", "runs", *QUICK]) == 0
    demo = Path(__file__).parents[2] / "experiments" / "demo" / "results.csv"
    columns = demo.read_text().splitlines()[0].split(",")
    metrics = [name for name in columns if "." not in name]  # keys with a dot are what varies
    assert len(metrics) > 10
    assert set(metrics) <= table(root / "compare")[0].keys()


def test_the_same_command_gives_the_same_files(root: Path) -> None:
    names = ("compare.csv", "paired.csv", "compare.html")
    assert main(["compare", "runs", *QUICK]) == 0
    first = [(root / "compare" / name).read_bytes() for name in names]
    assert main(["compare", "runs", *QUICK]) == 0
    assert [(root / "compare" / name).read_bytes() for name in names] == first


def test_a_folder_may_have_an_equals_sign_in_its_name(root: Path) -> None:
    (root / "a").rename(root / "lr=1,x")
    assert main(["compare", "runs/lr=1,x", "runs/b", *QUICK, "baseline=runs/b"]) == 0
    assert table(root / "compare", "paired.csv")[0]["baseline"] == "schedule=two_phase"


def test_a_case_that_is_not_there_is_told(root: Path, capsys: Capture) -> None:
    assert main(["compare", "runs", *QUICK, "cases=[case-000,nobody]"]) == 0
    assert "cases=nobody: not in the test split" in capsys.readouterr().out


def test_runs_that_did_not_finish_are_shown_noted_and_not_counted(
    root: Path, capsys: Capture
) -> None:
    fake_run(root / "c", "seed=9", "schedule=none", state="failed", reason="NaN", epochs=2)
    fake_run(root / "d", "seed=8", "schedule=none", state="running", epochs=1)
    (root / "e").mkdir()
    (root / "e" / "status.json").write_text("{")
    assert main(["compare", "runs", "nowhere", *QUICK]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("failed: NaN", "crashed", "2/4", "e/status.json", "nowhere: no such folder"):
        assert word in text, word
    rows = {Path(row["folder"]).name: row for row in table(root / "compare")}
    assert rows["c"]["state"] == "failed"
    assert rows["d"]["left_out"].startswith("crashed")
    groups = {row["run"]: row for row in table(root / "compare", "groups.csv")}
    assert (groups["schedule=none"]["n_seeds"], groups["schedule=none"]["n_runs"]) == ("1", "3")
    page = (root / "compare" / "compare.html").read_text()
    assert "Read this first" in page
    assert "failed: NaN" in page


def test_a_sweep_is_compared_with_the_jobs_that_never_ran(root: Path) -> None:
    jobs = [
        {"index": 0, "name": "a", "run_dir": "../a", "state": "finished", "overrides": {}},
        {"index": 1, "name": "b", "run_dir": "../b", "state": "finished", "overrides": {}},
        {
            "index": 2,
            "name": "gone wrong",
            "run_dir": "../z",
            "state": "failed",
            "reason": "data.root=/x: no such folder",
            "overrides": {"schedule": "none", "seed": 3},
        },
    ]
    folder = root / "sweep"
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps({"name": "s", "id": "1", "jobs": jobs}))
    assert main(["compare", "runs/sweep", *QUICK]) == 0
    rows = table(folder / "compare")
    assert [(row["name"], row["state"], row["run"]) for row in rows][1] == (
        "gone wrong",
        "failed",
        "schedule=none",
    )
    assert "no such folder" in rows[1]["left_out"]


def test_a_grid_has_a_heat_map_of_the_metric_asked_for(tmp_path: Path) -> None:
    grid(tmp_path / "g", {"attention": ["drr", "anatomical"], "schedule": ["none", "two_phase"]})
    words = ["metric=attention_gt_overlap", "n_cases=2"]
    assert main(["compare", str(tmp_path / "g"), *QUICK, *words]) == 0
    out = tmp_path / "g" / "compare"
    assert (out / "heatmap.png").is_file()
    assert {p.name for p in out.glob("comp*.png")} == {"comparison.png", "comparison-2.png"}
    assert main(["compare", str(tmp_path / "g"), *QUICK, "heatmap=[schedule,lr]"]) == 2


@pytest.mark.parametrize(
    ("words", "reasons"),
    [
        (["split=test"], ["name at least one run folder"]),
        (["nowhere", "neither"], ["nowhere: no such folder", "neither: no such folder"]),
        (["empty"], ["no run folder, and holds none"]),
        (["runs", "basline=x", "splt=test"], ["'baseline'", "'split'"]),
        (["runs", "split=tset"], ["split"]),
        (["runs", "baseline=nobody"], ["baseline=nobody: fits no run", "schedule=two_phase"]),
        (["runs", "heatmap=[schedule,lr]"], ["lr is not a key that differs", "schedule"]),
        (["runs", "heatmap=[schedule]"], ["heatmap"]),
        (["runs", "metric=dice_positiv"], ["did you mean 'dice_positive'"]),
        (["runs", "metrics=[dice_globl,hd59]"], ["metrics=dice_globl", "metrics=hd59"]),
        (["runs", "confidence=1.0"], ["confidence"]),
        (["runs", "evaluate=always"], ["evaluate"]),
        (["runs", "output_dir=file"], ["output_dir=file"]),
    ],
)
def test_a_users_mistake_is_one_message(
    root: Path, capsys: Capture, words: list[str], reasons: list[str]
) -> None:
    (root.parent / "empty").mkdir()
    (root.parent / "file").write_text("")
    assert main(["compare", *words]) == 2
    captured = capsys.readouterr()
    for reason in reasons:
        assert reason in captured.err
    assert "Traceback" not in captured.err
    assert not (root / "compare").exists()


def test_nothing_to_compare_says_why_for_each(root: Path, capsys: Capture) -> None:
    shutil.rmtree(root)
    fake_run(root / "a", state="failed", reason="no memory", epochs=0)
    fake_run(root / "b", state="interrupted", epochs=0)
    assert main(["compare", "runs"]) == 2
    message = capsys.readouterr().err
    for word in ("nothing can be compared", "runs/a: failed (no memory)", "runs/b: interrupted"):
        assert word in message


def test_what_is_missing_is_measured_once_and_kept(
    finished: RunFolder, tmp_path: Path, capsys: Capture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.path, run)
    words = ["compare", str(run), "n_resamples=200", "n_cases=1", "accelerator=cpu"]
    assert main(words) == 0
    folder = run / "evaluate" / "phantom-val"
    kept = [folder / name for name in ("cases.csv", "metrics.json", "maps.npz")]
    stamps = [path.stat().st_mtime_ns for path in kept]
    assert "val split" in capsys.readouterr().out
    (row,) = table(tmp_path / "compare")
    assert float(row["dice_positive"]) == json.loads(kept[1].read_text())["dice_positive"]
    assert (tmp_path / "compare" / "comparison.png").is_file()
    script = (
        "import sys; from attnseg.cli import main; code = main(sys.argv[1:]);"
        "assert 'torch' not in sys.modules, 'a second comparison needs no model'; sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True)
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    best = run / "checkpoints" / "best.ckpt"
    os.utime(best)  # newer than the figures, as in a copy; its weights are the same
    assert main(words) == 0
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    content = read_checkpoint(best)
    content["state_dict"] = {
        k: 2 * v if v.is_floating_point() else v for k, v in content["state_dict"].items()
    }
    save_checkpoint(content, best)
    os.utime(best, (1e9, 1e9))  # and older, with others
    assert main([*words, "evaluate=never"]) == 0
    assert "with other weights than" in " ".join(capsys.readouterr().out.split())
    assert main(words) == 0
    assert "measured again on the val split" in " ".join(capsys.readouterr().out.split())
    assert all(path.stat().st_mtime_ns > old for path, old in zip(kept, stamps, strict=True))


def test_more_cases_need_only_their_pictures(
    finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.path, run)
    words = ["compare", str(run), "n_resamples=200", "accelerator=cpu", "split=all"]
    assert main([*words, "n_cases=1"]) == 0
    monkeypatch.setattr(compare_measure, "measure", None)  # it may not be called again
    assert main([*words, "n_cases=2"]) == 0
    ids = [row["case_id"] for row in table(run / "evaluate" / "phantom-all", "cases.csv")]
    assert main([*words, f"cases=[{ids[-1]}]"]) == 0
    maps = run / "evaluate" / "phantom-all" / "maps.npz"
    before = maps.stat().st_mtime_ns
    assert main([*words, "n_cases=1"]) == 0
    assert maps.stat().st_mtime_ns == before
    write_maps(list(read_maps(maps).values()), maps, {"weights": ["others"], "digest": ""})
    assert main([*words, "n_cases=1"]) == 0
    summary = json.loads((maps.parent / "metrics.json").read_text())
    assert read_maps(maps, {"weights": summary["weights"]})


def test_what_cannot_be_measured_is_a_note(root: Path, capsys: Capture) -> None:
    shutil.rmtree(root / "b" / "evaluate")
    assert main(["compare", "runs", "split=test", "n_resamples=200", "n_cases=0"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "cannot be measured on the test split" in text
    assert "best.ckpt" in text
