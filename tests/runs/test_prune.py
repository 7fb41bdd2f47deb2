"""What may go, and that nothing else ever does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attnseg.common.errors import ConfigError
from attnseg.runs.folder import RunFolder
from attnseg.runs.hold import STALE_S
from attnseg.runs.prune import What, best_value, choose, folder_size, remove
from attnseg.runs.records import RunRecord, read_record
from tests.reports.compare.fakes import age, fake_run

DAY = 86400.0


def runs_in(root: Path) -> list[RunRecord]:
    return [read_record(path) for path in sorted(root.iterdir())]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, state, quality in (
        ("a", "finished", 0.6),
        ("b", "finished", 0.8),
        ("c", "finished", 0.7),
        ("d", "failed", 0.9),
        ("e", "interrupted", 0.9),
        ("f", "running", 0.9),
    ):
        fake_run(tmp_path / name, f"optim.lr={quality}", quality=quality, state=state)
    age(tmp_path, 600)
    return tmp_path


def names(root: Path, **conditions: object) -> list[str]:
    doomed, _ = choose(runs_in(root), **conditions)  # type: ignore[arg-type]
    return [one.run.path.name for one in doomed]


def test_by_state_age_and_rank(root: Path) -> None:
    assert names(root, states=["failed"]) == ["d"]
    assert names(root, states=["crashed", "interrupted"]) == ["e", "f"]
    assert names(root, keep_best=1) == ["c", "a"], "finished runs alone are ranked"
    assert names(root, keep_best=1, metric="attention_gt_distance") != []
    age(root / "b", 8 * DAY)
    assert names(root, older_than=7 * DAY) == ["b"]
    assert names(root, older_than=7 * DAY, states=["failed"]) == []


def test_rank_by_a_metric_that_is_better_lower(root: Path) -> None:
    lines = (root / "a" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("val/attention_gt_distance")
    cells = lines[-1].split(",")
    cells[column] = "1.0"
    (root / "a" / "metrics.csv").write_text("\n".join([*lines[:-1], ",".join(cells)]) + "\n")
    assert best_value(read_record(root / "a"), "attention_gt_distance") == 1.0
    assert "a" not in names(root, keep_best=1, metric="attention_gt_distance")
    assert names(root, keep_best=1, metric="no_such") == [], "what has no value is kept"


def test_ranking_by_different_metrics_must_be_said(root: Path) -> None:
    status = root / "a" / "status.json"
    status.write_text(status.read_text().replace("val/dice_positive", "val/dice_global"))
    age(status, 600)
    with pytest.raises(ConfigError, match="metric="):
        choose(runs_in(root), keep_best=1)


def test_a_run_in_training_is_never_touched(root: Path) -> None:
    with RunFolder(root / "d").held():
        doomed, notes = choose(runs_in(root), states=["failed"])
        assert doomed == []
        assert "training in it" in notes[0]


def test_a_training_that_began_after_the_choice_keeps_its_folder(root: Path) -> None:
    (one,), _ = choose(runs_in(root), states=["failed"])
    with RunFolder(root / "d").held():
        assert "training in it" in remove(one)
    assert (root / "d" / "status.json").is_file()
    age(root / "d", 600)
    assert remove(one) == ""
    assert not (root / "d").exists()


@pytest.mark.parametrize("broken", ["status.json", "config.yaml"])
@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_what_may_be_no_run_is_left_alone(root: Path, broken: str, text: str | None) -> None:
    path = root / "d" / broken
    if text is None:
        path.unlink()
    elif broken == "config.yaml":
        return
    else:
        path.write_text(text)
        age(path, 600)
    doomed, notes = choose([read_record(root / "d")])
    assert doomed == []
    assert "may not be a run" in notes[0]


def test_a_link_to_a_run_is_left_alone(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(root / "d")
    doomed, notes = choose([read_record(link)])
    assert doomed == []
    assert "a link" in notes[0]


def test_links_inside_a_run_are_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "g"
    outside.mkdir()
    (outside / "precious").write_text("x" * 1000)
    (root / "d" / "data").symlink_to(outside)
    before = folder_size(root / "d")
    (one,), _ = choose(runs_in(root)[:4], states=["failed"])
    assert one.size == before
    assert remove(one) == ""
    assert (outside / "precious").is_file()


def test_parts_of_runs(root: Path) -> None:
    assert names(root, what="last") == ["a", "b", "c"], "an unfinished run needs its last.ckpt"
    assert names(root, what="last", states=["failed"]) == ["d"]
    (one, *_), _ = choose(runs_in(root), what="last")
    assert remove(one) == ""
    assert not (root / "a" / "checkpoints" / "last.ckpt").exists()
    assert (root / "a" / "checkpoints" / "best.ckpt").exists()
    (one, *_), _ = choose(runs_in(root), what="checkpoints")
    assert remove(one) == ""
    assert not (root / "a" / "checkpoints").exists()
    picture = root / "a" / "report" / "overlays" / "epoch-1.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"x" * 100)
    (page := root / "a" / "report" / "report.html").write_text("page")
    age(root / "a", 600)
    (one,), _ = choose(runs_in(root), what="pictures")
    assert one.size == 100
    assert remove(one) == ""
    assert page.is_file()
    assert not picture.exists()


@pytest.mark.parametrize("place", ["metrics.csv", ".lock", "evaluate/phantom-test/cases.csv"])
def test_what_was_written_to_just_now_is_left_alone(root: Path, place: str) -> None:
    """By a training elsewhere, whose lock is not seen here, or by an evaluation."""
    (root / "d" / place).touch()
    doomed, notes = choose(runs_in(root), states=["failed"])
    assert doomed == []
    assert "something may still be at it" in notes[0]
    age(root / "d" / place, STALE_S + 1)
    (one,), _ = choose(runs_in(root), states=["failed"])
    (root / "d" / place).touch()
    assert "something may still be at it" in remove(one)
    assert (root / "d" / place).is_file()


@pytest.mark.parametrize("what", ["last", "checkpoints", "pictures", "run"])
def test_links_inside_a_run_are_not_followed_for_parts_of_it_either(
    root: Path, tmp_path_factory: pytest.TempPathFactory, what: What
) -> None:
    outside = tmp_path_factory.mktemp("scratch")
    shutil.rmtree(root / "d" / "checkpoints")
    for name in ("checkpoints", "report"):
        (outside / name).mkdir()
        (root / "d" / name).symlink_to(outside / name)
    (outside / "checkpoints" / "last.ckpt").write_text("precious")
    (outside / "report" / "curves.png").write_text("precious")
    doomed, notes = choose(runs_in(root), what=what, states=["failed"])
    if what in ("last", "pictures"):
        assert doomed == []
        assert "behind a link in it is left alone" in notes[0]
    for one in doomed:
        assert remove(one) == ""
    assert (outside / "checkpoints" / "last.ckpt").read_text() == "precious"
    assert (outside / "report" / "curves.png").read_text() == "precious"
    assert (root / "d").exists() == (what != "run")
