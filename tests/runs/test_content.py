"""The same run means the same data: two data sets are two runs, one that moved is one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from attnseg.cli import main
from attnseg.common.errors import ConfigError, DataError, UserError
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.runs.adoption import logged_as
from attnseg.runs.content import read_content
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_ids
from attnseg.training.fit import fit
from attnseg.training.identified import identified
from tests.conftest import TINY
from tests.data.test_digest import _black, _edit, write_set
from tests.sweeps.helpers import snapshot

Told = pytest.CaptureFixture[str]
SMALL = [word for word in TINY if not word.startswith(("data.n_cases", "data.split"))]


def words(root: Path, *more: str) -> list[str]:
    data = ["data=manifest", f"data.root={root}", "data.split.kind=fixed"]
    return [*SMALL, *data, "schedule.total_epochs=2", *more]


def config_of(root: Path, *more: str) -> TrainConfig:
    return compose_checked("train", words(root, *more), TrainConfig)


def _named(error: UserError) -> list[str]:
    """The lines that say what differs."""
    return [line[4:] for line in str(error).splitlines() if line.startswith("  - ")]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Path:
    """A set and, beside it, a run on it that has two of three epochs: `set` and `runs/half`."""
    place = tmp_path_factory.mktemp("half")
    write_set(place / "set", 9)
    splits = ["patient,split", *(f"p{n},{'val' if n > 5 else 'train'}" for n in range(9))]
    (place / "splits.csv").write_text("\n".join(splits))
    assert fit(of_half(place, "trainer.max_epochs=1")) == 0
    return place


def of_half(place: Path, *more: str) -> TrainConfig:
    where = [f"run.dir={place / 'runs' / 'half'}", f"run.root={place / 'runs'}"]
    return config_of(place / "set", f"data.split.file={place / 'splits.csv'}", *where, *more)


@pytest.fixture
def copy(half: Path, tmp_path: Path) -> Path:
    """The same, to be changed; elsewhere, as a set that moved."""
    shutil.copytree(half, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training that takes no time, and leaves nothing."""
    import pytorch_lightning as pl

    def stop(trainer: pl.Trainer, *_: object, **__: object) -> None:
        trainer.should_stop = True

    monkeypatch.setattr(pl.Trainer, "fit", stop)


def _swap_patients(place: Path) -> None:
    """Two of six that were trained on are validated on, one goes the other way."""
    text = (place / "splits.csv").read_text()
    for number, split in ((1, "val"), (3, "val"), (7, "train")):
        old = "train" if split == "val" else "val"
        text = text.replace(f"p{number},{old}", f"p{number},{split}")
    (place / "splits.csv").write_text(text)


def _in_set(change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda place: change(place / "set")


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "split file": (
        _swap_patients,
        [
            "patients to validate on that were trained on (2): p1, p3",
            "patients to train on that were validated on (1): p7",
        ],
    ),
    "mask": (_in_set(_black("mask7.png")), ["files that differ (1): images/mask7.png"]),
    "spacing": (
        _in_set(lambda root: _edit(root, "mask0.png,0.5", "mask0.png,0.6")),
        ["cases of which tables say something else (spacing, marks, ...) or new (1): c0"],
    ),
    "left out": (
        _in_set(lambda root: _edit(root, "c8,p8,", "c8,p7,")),
        ["patients that are gone: 1"],
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_run_does_not_go_on_on_other_data(copy: Path, what: str) -> None:
    """And is not `finished`, and its best does not stand: nothing in its folder is touched."""
    change, expected = CHANGES[what]
    change(copy)
    before = snapshot(copy / "runs")
    with pytest.raises(ConfigError, match="holds this run on other data") as caught:
        fit(of_half(copy))
    assert _named(caught.value) == expected
    with pytest.raises(ConfigError, match="cannot resume") as caught:
        fit(of_half(copy, f"resume={copy}/runs/half", f"run.dir={copy}/runs/new"))
    assert _named(caught.value) == [f"data: {line}" for line in expected]
    assert snapshot(copy / "runs") == before


def test_a_set_that_moved_is_resumed_and_found_finished(copy: Path, capsys: Told) -> None:
    """Elsewhere, with its split file, through a link, with absolute paths and touched."""
    (copy / "set").rename(copy / "place")
    (copy / "link").symlink_to(copy / "place")
    _edit(copy / "place", "images/", f"{copy}/place/images/")
    for path in (copy / "place").rglob("*"):
        os.utime(path)
    (copy / "splits.csv").rename(copy / "other.csv")
    where = [f"data.root={copy / 'link'}", f"data.split.file={copy / 'other.csv'}"]
    assert fit(of_half(copy, *where)) == 0
    assert RunFolder(copy / "runs" / "half").read_status()["epoch"] == 2
    capsys.readouterr()
    assert fit(of_half(copy, *where)) == 0
    assert "this run is finished" in capsys.readouterr().out


def test_resume_none_starts_afresh_on_the_data_that_there_are(untrained: None, copy: Path) -> None:
    folder = RunFolder(copy / "runs" / "half")
    old = folder.read_status()
    _black("mask0.png")(copy / "set")
    assert fit(of_half(copy, "resume=none", "trainer.max_epochs=1")) == 0
    new = folder.read_status()
    assert not folder.last.exists()
    assert new["configuration"] == old["configuration"]
    assert new["id"] == new["ids"]["3"] != old["id"]
    record = read_content(folder.content)
    assert record is not None
    assert record.digest == new["data"]["digest"] != old["data"]["digest"]


def test_without_a_folder_of_its_own_it_is_another_run_and_the_old_one_is_named(
    untrained: None, copy: Path, capsys: Told
) -> None:
    _swap_patients(copy)
    before = snapshot(copy / "runs" / "half")
    assert fit(of_half(copy, "run.dir=null", "trainer.max_epochs=1")) == 0
    out = capsys.readouterr().out
    assert f"{copy}/runs/half is the same configuration on other data" in out
    assert "  - patients to validate on that were trained on (2): p1, p3" in out
    assert snapshot(copy / "runs" / "half") == before


def test_content_json_tells_no_name_and_is_small(copy: Path) -> None:
    path = copy / "runs" / "half" / "content.json"
    text = path.read_text()
    assert not [name for name in ("mask0", "images", "row of") if name in text]
    assert len(json.loads(text)["files"]) == 16 * 9 * 4
    assert len(json.loads(text)["train"]) == 8 * 6
    path.unlink()
    _black("mask0.png")(copy / "set")
    with pytest.raises(ConfigError, match=r"no .*content\.json says which"):
        fit(of_half(copy))


def test_data_that_change_under_a_frozen_command_stop_it(copy: Path) -> None:
    """The launcher's digest goes to jobs and ranks, which may begin days later."""
    frozen = identified(of_half(copy))
    _black("mask0.png")(copy / "set")
    with pytest.raises(DataError, match="the data have changed since this command began"):
        fit(frozen)


def test_data_that_cannot_be_read_are_an_error_and_no_other_run(copy: Path) -> None:
    (copy / "set" / "images" / "xray0.png").unlink()
    (copy / "set" / "images" / "drr6.png").unlink()
    with pytest.raises(DataError) as caught:
        identified(of_half(copy))
    assert len(caught.value.problems) == 2


def test_a_rank_of_a_users_own_group_finds_the_same_id(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for rank in ("0", "1"):
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
        monkeypatch.setenv("SLURM_PROCID", rank)
        ids.append(run_ids(identified(of_half(copy))))
    assert ids[0] == ids[1]
    assert ids[0]["3"] == RunFolder(copy / "runs" / "half").read_status()["id"]


def test_a_fork_goes_on_on_other_data_and_forgets_the_best(copy: Path, capsys: Told) -> None:
    from attnseg.runs.checkpoints import read_checkpoint

    _black("mask0.png")(copy / "set")
    _swap_patients(copy)
    child = RunFolder(copy / "runs" / "child")
    assert fit(of_half(copy, f"run.dir={child.path}", f"fork={copy}/runs/half")) == 0
    out = capsys.readouterr().out
    assert "the fork goes on on other data" in out
    assert "  - patients to validate on that were trained on (2): p1, p3" in out
    status = child.read_status()
    [line] = [line for line in status["fork"]["changed"] if line.startswith("data.")]
    assert line.startswith("data.content: ")
    assert (status["best"]["epoch"], read_checkpoint(child.best)["epoch"]) == (2, 1)


class TestBeforeThereWereDigests:
    """A run of an older attnseg, which recorded one id and which cases there were."""

    @pytest.fixture
    def old(self, copy: Path) -> RunFolder:
        from attnseg.runs.checkpoints import read_checkpoint, save_checkpoint

        config = of_half(copy)
        folder = RunFolder(copy / "runs" / f"half-{run_ids(config)['1']}")
        (copy / "runs" / "half").rename(folder.path)
        folder.content.unlink()
        status = folder.read_status()
        del status["ids"], status["data"]["digest"]
        status["id"] = run_ids(config)["1"]
        folder.status.write_text(json.dumps(status))
        for path in (folder.last, folder.best):
            content = read_checkpoint(path)
            record = content["attnseg"]
            del record["ids"], record["data"]["digest"], record["config"]["data_digest"]
            record["identity"] = status["id"]
            save_checkpoint(content, path)
        return folder

    def test_it_is_adopted_with_a_note_and_known_by_its_content_from_then_on(
        self, old: RunFolder, copy: Path, capsys: Told
    ) -> None:
        config = of_half(copy, "run.dir=null", "run.name=half")
        before = old.read_status()["id"]
        assert fit(config) == 0
        assert "its content was not recorded" in capsys.readouterr().out
        status = old.read_status()
        assert (status["epoch"], status["state"]) == (2, "finished")
        assert status["ids"] == run_ids(identified(config))
        assert logged_as(old, identified(config)) == before
        assert [path.name for path in (copy / "runs").iterdir()] == [old.path.name]
        assert fit(config) == 0
        out = capsys.readouterr().out
        assert "this run is finished" in out
        assert "not recorded" not in out
        _black("mask0.png")(copy / "set")
        with pytest.raises(ConfigError, match="on other data") as caught:
            fit(
                config.model_copy(
                    update={"run": config.run.model_copy(update={"dir": str(old.path)})}
                )
            )
        assert _named(caught.value) == ["files that differ (1): images/mask0.png"]

    def test_it_is_found_by_both_ids(
        self, untrained: None, old: RunFolder, copy: Path, capsys: Told
    ) -> None:
        config = of_half(copy, "run.dir=null", "run.name=half", "trainer.max_epochs=1")
        assert fit(config) == 0
        for value in run_ids(identified(config)).values():
            assert main(["runs", "show", value, f"root={copy / 'runs'}"]) == 0

    def test_other_names_are_other_data_for_certain(self, old: RunFolder, copy: Path) -> None:
        _edit(copy / "set", "c0,", "c99,")
        with pytest.raises(ConfigError, match="of a run on other cases"):
            fit(of_half(copy, f"run.dir={old.path}"))
