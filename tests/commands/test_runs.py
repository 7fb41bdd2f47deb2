"""`attnseg runs list|show|prune`: what is printed, what is deleted, what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from attnseg.cli import main
from attnseg.commands.runs_lines import age_words, size_words
from attnseg.runs.folder import RunFolder
from tests.reports.compare.fakes import age, fake_run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    fake_run(tmp_path / "runs" / "a", "seed=1", quality=0.6)
    fake_run(tmp_path / "runs" / "b", "seed=2", quality=0.8)
    fake_run(tmp_path / "runs" / "c", "seed=3", state="failed", reason="no memory", epochs=2)
    fake_run(tmp_path / "runs" / "d", "seed=4", state="running", epochs=1)
    age(tmp_path / "runs", 600)
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "notes" / "a.txt").write_text("mine")
    return tmp_path / "runs"


def listed(capsys: Capture, *words: str) -> list[dict[str, object]]:
    assert main(["runs", *words, "format=json"]) == 0
    return list(json.loads(capsys.readouterr().out))


def test_list_shows_every_run_as_it_is(root: Path, capsys: Capture) -> None:
    lines = listed(capsys, "list")
    assert [line["state"] for line in lines] == ["finished", "finished", "failed", "crashed"]
    assert lines[2]["epoch"] == 2
    assert lines[2]["total_epochs"] == 4
    assert lines[1]["best_value"] == 0.8
    assert all(isinstance(line["size"], int) and line["size"] > 1000 for line in lines)
    assert main(["runs", "list"]) == 0
    table = capsys.readouterr().out
    for word in ("crashed", "2/4", "0.8", "best: val/dice_positive", "4 runs in runs"):
        assert word in table, word


def test_list_as_csv_sorted_and_filtered(root: Path, capsys: Capture) -> None:
    words = ["runs", "list", "format=csv", "sort=best", "state=[finished,failed]"]
    assert main(words) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["best_value"] for row in rows] == ["0.8", "0.7", "0.6"]
    assert main(["runs", "list", "state=interrupted", "format=csv"]) == 0
    assert capsys.readouterr().out == ""


def test_show_by_folder_name_and_beginning_of_an_id(root: Path, capsys: Capture) -> None:
    everything = {line["folder"]: line for line in listed(capsys, "list")}
    line = everything["runs/b"]
    for word in (str(root / "b"), "b", str(line["name"]), str(line["id"]), str(line["id"])[:5]):
        assert main(["runs", "show", word, "format=json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["id"] == line["id"], word
    assert facts["last_metrics"]["epoch"] == "4"
    assert "checkpoints/best.ckpt" in facts["files"]
    assert "evaluate/phantom-test/metrics.json" in facts["files"]
    assert main(["runs", "show", "c"]) == 0
    assert "no memory" in capsys.readouterr().out


def test_prune_lists_first_and_deletes_when_told(root: Path, capsys: Capture) -> None:
    assert main(["runs", "prune", "state=failed"]) == 0
    text = capsys.readouterr().out
    assert "would go; yes=true deletes it" in text
    assert "runs/c" in text
    assert (root / "c").is_dir()
    lines = listed(capsys, "prune", "state=[failed,crashed]", "yes=true")
    assert [(line["folder"], line["deleted"]) for line in lines] == [
        ("runs/c", True),
        ("runs/d", True),
    ]
    assert sorted(path.name for path in root.iterdir()) == ["a", "b", "notes"]


def test_prune_leaves_a_run_in_training(root: Path, capsys: Capture) -> None:
    with RunFolder(root / "d").held():
        assert main(["runs", "prune", "state=[crashed,running]", "yes=true"]) == 0
        assert main(["runs", "prune", "older_than=0s", "yes=true"]) == 0
    assert "a process is training in it" in capsys.readouterr().err
    assert sorted(path.name for path in root.iterdir()) == ["d", "notes"]


def test_prune_keeps_the_best(root: Path) -> None:
    assert main(["runs", "prune", "keep_best=1", "metric=dice_positive", "yes=true"]) == 0
    assert not (root / "a").exists()
    assert (root / "b").is_dir()


@pytest.mark.parametrize(
    ("words", "reasons"),
    [
        (["lits"], ["attnseg runs list, show or prune"]),
        (["list", "root=absent"], ["root=absent: no such folder"]),
        (["list", "stat=failed", "formt=csv"], ["did you mean 'state'", "did you mean 'format'"]),
        (["list", "state=dead"], ["no such state", "crashed"]),
        (["list", "yes=true"], ["yes: no such key"]),
        (["show"], ["name one run"]),
        (["show", "a", "b"], ["name one run"]),
        (["show", "nothing"], ["no run of that folder, name or id"]),
        (["show", "runs/notes"], ["not a run folder"]),
        (["prune"], ["say which runs may go"]),
        (["prune", "yes=true"], ["say which runs may go"]),
        (["prune", "older_than=soon"], ["such as 7d"]),
        (["prune", "keep_best=0"], ["keep_best"]),
        (["prune", "state=failed", "metric=dice"], ["keep_best=N"]),
        (["prune", "what=all"], ["what"]),
    ],
)
def test_a_users_mistake_is_one_message_and_deletes_nothing(
    root: Path, capsys: Capture, words: list[str], reasons: list[str]
) -> None:
    assert main(["runs", *words]) == 2
    captured = capsys.readouterr()
    for reason in reasons:
        assert reason in captured.err
    assert "Traceback" not in captured.err
    assert len(list(root.iterdir())) == 5


def test_an_ambiguous_id_lists_what_it_fits(root: Path, capsys: Capture) -> None:
    for name in "ab":
        status = root / name / "status.json"
        content = json.loads(status.read_text())
        status.write_text(json.dumps(content | {"id": f"abcd000{name}"}))
    assert main(["runs", "show", "abcd"]) == 2
    message = capsys.readouterr().err
    assert "runs/a" in message
    assert "runs/b" in message


def test_sizes_and_ages_in_words() -> None:
    assert [size_words(n) for n in (12, 1234, 5_000_000, 7e9)] == [
        "12 B",
        "1.2 kB",
        "5.0 MB",
        "7.0 GB",
    ]
    assert [age_words(n) for n in (5, 120, 7200, 200_000, None)] == [
        "5 s",
        "2 min",
        "2 h",
        "2 d",
        "–",
    ]
