"""What is recorded of a run's code, and which changes of it count."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.runs import code as module
from attnseg.runs.code import Code, changed_files, code_of, continued, listed, other_versions
from tests.runs.test_source import write


def code(target: str = "") -> Code:
    words = ["model=basic_unet", f"model.network._target_={target}", "attention=none"]
    words = [*words, "schedule=none"] if target else []
    return code_of(compose_checked("train", words, TrainConfig))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a user's, on Python's path, under a name that no other test has used."""
    for cached in (module._homes, module._known_by_version, module._distribution):
        cached.cache_clear()
    write(
        tmp_path,
        {
            "mylab/__init__.py": "",
            "mylab/nets.py": "from mylab import parts\nimport beside, os, numpy, torch",
            "mylab/parts.py": "",
            "beside.py": "import further",
            "further.py": "",
        },
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_record_is_plain_and_short() -> None:
    record = code()
    assert json.loads(json.dumps(record)) == record
    assert record["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert record["packages"]["torch"]["version"]
    files = ("training/module.py", "nn/attention/anatomical.py", "schedules/phases.py")
    assert {f"attnseg/{name}" for name in files} <= {*record["files"]}
    assert "attnseg/nn/attention/drr.py" not in record["files"]  # it is not this run's
    assert not [
        n for n in record["files"] if n.startswith(("attnseg/reports", "attnseg/training/loggers"))
    ]
    assert len(json.dumps(record)) < 15_000


def test_a_users_class_brings_what_it_imports_from_its_package_and_from_beside_it(
    lab: Path,
) -> None:
    record = code("mylab.nets.Net")
    theirs = {name for name in record["files"] if not name.startswith("attnseg/")}
    beside = {"beside.py", "further.py"}
    assert theirs == {"mylab/__init__.py", "mylab/nets.py", "mylab/parts.py", *beside}
    assert record["digest"] != code()["digest"]
    assert record["packages"]["mylab"] == {}  # neither installed nor in git


def test_a_package_from_an_index_is_known_by_its_version() -> None:
    record = code("monai.networks.nets.BasicUNet")
    assert all(name.startswith("attnseg/") for name in record["files"])
    assert record["packages"]["monai"]["version"]


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("mylab/nets.py", "from mylab import parts\nimport beside, os, torch", ["mylab/nets.py"]),
        ("mylab/parts.py", "x = 1", ["mylab/parts.py"]),
        ("further.py", "x = 1", ["further.py"]),
        ("further.py", "# a comment\n'a docstring'", []),
        ("mylab/unused.py", "x = 1", []),
        ("mylab/parts.py", "from mylab import new", ["mylab/parts.py"]),
    ],
)
def test_what_changed_is_named(lab: Path, file: str, text: str, changed: list[str]) -> None:
    before = code("mylab.nets.Net")
    (lab / file).write_text(text)
    assert changed_files(before, code("mylab.nets.Net")) == changed


def test_a_moved_project_is_the_same_code(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code("mylab.nets.Net")
    (tmp_path / "mylab").rename(tmp_path / "elsewhere")
    for name in ("beside.py", "further.py"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    (tmp_path / "new").mkdir()
    (tmp_path / "elsewhere").rename(tmp_path / "new" / "mylab")
    for name in ("beside.py", "further.py"):
        (tmp_path / "new" / "mylab" / name).rename(tmp_path / "new" / name)
    monkeypatch.syspath_prepend(str(tmp_path / "new"))
    module._homes.cache_clear()
    assert changed_files(before, code("mylab.nets.Net")) == []


def test_bytes_are_compared_where_python_is_another(lab: Path) -> None:
    before = {**code("mylab.nets.Net"), "python": "3.99"}
    assert changed_files(before, code("mylab.nets.Net")) == []
    (lab / "further.py").write_text("# a comment")
    assert changed_files(before, code("mylab.nets.Net")) == ["further.py"]


COMMIT, OTHER = {"commit": "a" * 40, "dirty": False}, {"commit": "b" * 40, "dirty": False}
DIRTY = {"commit": "a" * 40, "dirty": True}


@pytest.mark.parametrize(
    ("then", "now", "counts"),
    [
        (COMMIT, OTHER, False),  # told, as other_versions says
        (COMMIT, DIRTY, True),
        (DIRTY, OTHER, True),
        ({}, {}, True),  # one installed version, edited in place
        ({"version": "0.1"}, {"version": "0.2"}, False),
        (COMMIT, {}, True),
    ],
)
def test_attnsegs_own_source_counts_where_nothing_vouches_for_it(
    then: dict[str, Any], now: dict[str, Any], counts: bool
) -> None:
    before, after = (copy.deepcopy(code()) for _ in range(2))
    before["packages"]["attnseg"] = {"version": "0.1", **then}
    after["packages"]["attnseg"] = {"version": "0.1", **now}
    after["files"]["attnseg/training/module.py"] = "0 0"
    after["digest"] = "another"
    assert changed_files(before, after) == ["attnseg/training/module.py"] * counts


def test_versions_and_commits_are_told() -> None:
    before, after = (copy.deepcopy(code()) for _ in range(2))
    before["packages"]["attnseg"] = {"version": "0.1", **COMMIT}
    after["packages"]["attnseg"] = {"version": "0.1", **OTHER}
    after["packages"]["torch"] = {"version": "9.9"}
    told = other_versions(before, after)
    assert told.startswith("attnseg 0.1 commit aaaaaaa -> 0.1 commit bbbbbbb, torch ")
    assert told.endswith("-> 9.9")
    assert other_versions(before, before) == ""


def test_what_a_run_was_made_of_before_is_kept() -> None:
    now = code()
    then = {**now, "digest": "old"}
    first = continued(then, now, ["a.py"], 7)
    assert first["earlier"] == [{"digest": "old", "changed": ["a.py"], "until_step": 7}]
    again = continued({**first, "digest": "mid"}, now, ["b.py"], 9)
    assert [each["digest"] for each in again["earlier"]] == ["old", "mid"]
    assert continued(first, now, [], 9)["earlier"] == first["earlier"]
    assert "earlier" not in continued(then, now, [], 9)


def test_many_files_are_not_all_listed() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([f"f{i}" for i in range(12)]).endswith("f7 and 4 more")
