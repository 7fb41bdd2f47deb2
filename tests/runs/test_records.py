"""What a run folder says of its run, and which folders some words mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from attnseg.runs.folder import RunFolder
from attnseg.runs.gather import find_runs, gather, sweeps_of
from attnseg.runs.records import looks_like_run, read_record
from tests.reports.compare.fakes import fake_run


def run(path: Path, *words: str, **options: Any) -> Path:
    return fake_run(path, *words, evaluated=None, **options)


def test_a_finished_run(tmp_path: Path) -> None:
    record = read_record(run(tmp_path / "a", "seed=5"))
    assert (record.state, record.epoch, record.total, record.seed) == ("finished", 4, 4, 5)
    assert record.best["value"] == 0.7
    assert record.finished
    assert record.problems == ()


def test_a_running_run_that_nobody_holds_has_crashed(tmp_path: Path) -> None:
    path = run(tmp_path / "a", state="running", epochs=2)
    assert read_record(path).state == "crashed"
    assert "same command" in read_record(path).reason
    with RunFolder(path).held():
        assert RunFolder(path).is_held()
        assert read_record(path).state == "running"
        assert RunFolder(path).is_held(), "looking must not let go of it"
    assert not RunFolder(path).is_held()


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("status.json", '{"state": "fin', "cannot be read"),
        ("status.json", "[]", "holds no keys"),
        ("config.yaml", "a: [", "cannot be read"),
        ("metrics.csv", "no,ledger\n1,2\n", "not a ledger"),
        ("metrics.csv", "epoch\nx\n", "line 2 is cut off or damaged"),
        ("metrics.csv", "", "not a ledger"),
    ],
)
def test_a_broken_file_is_a_problem_that_names_it(
    tmp_path: Path, name: str, text: str, word: str
) -> None:
    path = run(tmp_path / "a")
    (path / name).write_text(text)
    record = read_record(path)
    (problem,) = record.problems
    assert str(path / name) in problem
    assert word in problem
    assert not record.rows if name == "metrics.csv" else record.rows


def test_words_mean_runs_folders_of_runs_and_each_run_once(tmp_path: Path) -> None:
    for name in ("b", "a"):
        run(tmp_path / "runs" / name)
    run(tmp_path / "runs" / "deep" / "er" / "c")
    (tmp_path / "runs" / ".hidden").mkdir()
    found = gather([tmp_path / "runs" / "b", tmp_path / "runs"])
    assert [record.path.name for record in found.runs] == ["b", "a", "c"]
    assert found.problems == []
    assert [path.name for path in find_runs(tmp_path)] == ["a", "b", "c"]


def test_every_wrong_word_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    run(tmp_path / "a")
    found = gather([tmp_path / name for name in ("absent", "empty", "file", "a")])
    assert len(found.runs) == 1
    assert [problem.rsplit("/", 1)[1] for problem in found.problems] == [
        "absent: no such folder",
        "empty: no run folder, and holds none",
        "file: a file, not a run folder",
    ]


def sweep(folder: Path, jobs: list[dict[str, Any]], name: str = "weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"name": name, "id": "s1", "command": "attnseg train -m", "varied": ["schedule"]}
    (folder / "sweep.json").write_text(json.dumps(content | {"jobs": jobs}))
    return folder


def test_a_sweep_names_runs_beside_and_below_it(tmp_path: Path) -> None:
    run(tmp_path / "runs" / "a", "schedule=none")
    run(tmp_path / "runs" / "sweeps" / "w" / "b", "schedule=two_phase")
    jobs = [
        {"index": 0, "name": "a", "run_dir": "../../a", "state": "finished", "overrides": {}},
        {"index": 1, "name": "b", "run_dir": "b", "state": "running", "overrides": {"seed": 1}},
        {"index": 2, "name": "c", "run_dir": "c", "state": "failed", "reason": "no memory"},
        {"index": 3, "name": "d", "run_dir": "d", "state": "finished"},
        {"index": 4, "name": "e", "run_dir": None, "state": "pending"},
    ]
    folder = sweep(tmp_path / "runs" / "sweeps" / "w", jobs)
    found = gather([folder])
    states = {record.name: (record.state, record.sweep) for record in found.runs}
    assert [record.path.name for record in found.runs][:4] == ["a", "b", "c", "d"]
    assert set(states.values()) == {
        ("finished", "weights"),  # by its own status, whatever the sweep says
        ("failed", "weights"),
        ("gone", "weights"),
        ("pending", "weights"),
    }
    assert found.runs[0].path == tmp_path / "runs" / "a"
    assert found.runs[2].reason == "no memory"
    (problem,) = found.problems
    assert str(folder / "d") in problem
    assert sweeps_of(tmp_path / "runs")[(tmp_path / "runs" / "a").resolve()] == "weights"


@pytest.mark.parametrize("text", ["{", "[]", '{"jobs": 3}', '{"jobs": [1]}'])
def test_a_broken_sweep_is_a_problem_and_its_runs_are_still_found(
    tmp_path: Path, text: str
) -> None:
    run(tmp_path / "a")
    (tmp_path / "sweep.json").write_text(text)
    found = gather([tmp_path])
    assert [record.path.name for record in found.runs] == ["a"]
    assert "cannot be read as a sweep" in found.problems[0]


def test_a_runs_own_word_on_its_sweep_is_enough(tmp_path: Path) -> None:
    path = run(tmp_path / "a")
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["run"]["sweep"] = {"name": "lr", "id": "x", "varied": {"optim.lr": 0.1}}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    record = read_record(path)
    assert (record.sweep, record.varied) == ("lr", {"optim.lr": 0.1})


def test_what_is_no_run(tmp_path: Path) -> None:
    assert not looks_like_run(tmp_path)
    (tmp_path / "config.yaml").write_text("a: 1")
    assert not looks_like_run(tmp_path), "a configuration alone can be anything's"
