"""Sweeps over data: each content is a run, wherever it lies, and is looked at once."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from attnseg.cli import main
from attnseg.common.errors import USER_MISTAKE
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import identity_record, run_ids
from tests.conftest import TINY
from tests.data.test_digest import _black, write_set
from tests.sweeps.helpers import record, snapshot, sweep

Told = pytest.CaptureFixture[str]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Trainings that take no time: the configurations that were."""
    from attnseg.training import fit as module

    seen: list[Any] = []

    def train(config: Any) -> int:
        seen.append(config)
        folder = RunFolder(Path(config.run.dir))
        folder.update_status(**identity_record(config), state="finished")
        return 0

    monkeypatch.setattr(module, "fit", train)
    return seen


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """`one`; `two`, with another mask; `three`, a copy of one."""
    write_set(tmp_path / "one")
    for name in ("two", "three"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    _black("mask0.png")(tmp_path / "two")
    return tmp_path


def of_roots(sets: Path, *names: str, more: Sequence[str] = ()) -> int:
    small = [word for word in TINY if not word.startswith(("data.n_cases", "data.split"))]
    roots = ",".join(str(sets / name) for name in names)
    data = ["data=manifest", "data.split.kind=fixed", f"data.root={roots}"]
    return main(["train", "-m", *small, f"run.root={sets / 'runs'}", *data, *more])


def test_two_contents_are_two_runs_and_a_copy_is_none(sets: Path, trained: list[Any]) -> None:
    assert of_roots(sets, "one", "two", "three") == 0
    assert [Path(config.data.root).name for config in trained] == ["one", "two"]
    jobs = record(sets / "runs")["jobs"]
    assert [job["state"] for job in jobs] == ["finished"] * 3
    assert jobs[0]["run_id"] == jobs[2]["run_id"] != jobs[1]["run_id"]
    assert jobs[0]["run_dir"] == jobs[2]["run_dir"] != jobs[1]["run_dir"]
    assert len({run_ids(config)["1"] for config in trained}) == 1


def test_what_was_edited_since_is_trained_and_what_moved_is_not(
    sets: Path, trained: list[Any]
) -> None:
    assert of_roots(sets, "one", "two") == 0
    before = snapshot(sets / "runs")
    (sets / "one").rename(sets / "four")
    _black("xray4.png")(sets / "two")
    assert of_roots(sets, "four", "two") == 0
    assert [Path(config.data.root).name for config in trained] == ["one", "two", "two"]
    after = snapshot(sets / "runs")
    kept = {name: file for name, file in before.items() if not name.startswith("sweeps/")}
    assert {name: after[name] for name in kept} == kept


def test_the_data_are_looked_at_once_and_jobs_are_told(
    sets: Path, trained: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.data import digest

    looked: list[str] = []
    original = digest.digest_of

    def noted(config: Any, **options: Any) -> str:
        looked.append(config.root)
        return original(config, **options)

    monkeypatch.setattr(digest, "digest_of", noted)
    assert of_roots(sets, "one", "two", more=["seed=1,2,3"]) == 0
    assert [Path(root).name for root in looked] == ["one", "two"]
    assert len(trained) == 6
    assert len({config.data_digest for config in trained}) == 2


def test_data_that_cannot_be_read_are_told_before_anything_trains(
    sets: Path, trained: list[Any], capsys: Told
) -> None:
    (sets / "two" / "images" / "xray1.png").unlink()
    assert of_roots(sets, "one", "two", "none") == USER_MISTAKE
    assert len(trained) == 1
    out = capsys.readouterr().out
    assert out.startswith("2 of 3 jobs cannot run:")
    assert "xray1.png" in out
    assert "there is no file" in out


def test_a_run_of_before_there_were_digests_is_the_first_jobs(
    sets: Path, trained: list[Any]
) -> None:
    assert of_roots(sets, "one") == 0
    old = RunFolder(Path(trained[0].run.dir))
    identity = run_ids(trained[0])["1"]
    home = RunFolder(old.path.with_name(f"by-hand-{identity}"))
    old.path.rename(home.path)
    home.status.write_text(f'{{"id": "{identity}", "state": "finished"}}')
    assert of_roots(sets, "one", "two") == 0
    assert [Path(config.data.root).name for config in trained] == ["one", "two"]


def test_a_search_on_other_data_is_another_study(tmp_path: Path, capsys: Told) -> None:
    """One of before there were digests goes on where it is, on the data that it first meets."""
    from attnseg.commands.search import _study_of
    from attnseg.sweeps.record import SweepRecord

    def study(digest: str | None) -> str:
        return _study_of(SweepRecord(tmp_path, "s", "", "", []), {"run": {}}, digest)

    before, first, second = study(None), study("1"), study("2")
    assert len({before, first, second}) == 3
    (tmp_path / "sweeps" / f"s-{before}").mkdir(parents=True)
    assert study("1") == before
    assert "its content was not recorded" in capsys.readouterr().out
    assert study("1") == before
    assert study("2") == second
    assert capsys.readouterr().out == ""


def test_phantoms_need_no_file(tmp_path: Path, trained: list[Any]) -> None:
    assert sweep(tmp_path, "data.seed=1,2", "data.num_workers=0,1") == 0
    assert len(trained) == 2
