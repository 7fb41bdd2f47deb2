"""Which folders are projects, who trusts them, and what follows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from attnseg.cli import main
from attnseg.commands.new import write_project
from attnseg.common import project
from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.config.trust import trusted_class


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv(project.VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "my lab"
    write_project("lab_of_tests", folder)
    return folder


def test_a_folder_is_used_once_it_is_trusted_and_no_longer_when_not(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    below = lab / "conf" / "attention"
    monkeypatch.chdir(lab)
    note = project.activate()
    assert note is not None
    assert "lab_of_tests" in note
    assert "attnseg trust ." in note
    assert project.active() is None
    assert str(lab) not in sys.path
    assert main(["trust", "."]) == 0
    assert str(lab) in capsys.readouterr().out
    monkeypatch.chdir(below)
    assert project.activate() is None
    assert project.active() == lab
    assert sys.path[0] == str(lab)
    assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(lab)  # of what a command starts
    assert project.active_packages() == ("lab_of_tests",)
    os.environ[project.VARIABLE] = ""
    assert main(["trust", "--remove", str(lab)]) == 0
    project.activate()
    assert project.active() is None


def test_a_copy_elsewhere_and_a_run_folder_are_not_trusted(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.trust(lab)
    copy = tmp_path / "copy"
    lab.rename(copy)
    monkeypatch.chdir(copy)
    project.activate()
    assert project.active() is None


def test_what_is_trusted_is_listed_once(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust"]) == 0
    assert "no folder is trusted" in capsys.readouterr().out
    project.trust(lab)
    project.trust(lab)
    assert main(["trust"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(lab)]


@pytest.mark.parametrize("words", [["--all"], ["a", "b"], ["--remove"], ["nowhere"], ["."]])
def test_anything_else_is_one_message(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["trust", *words]) == 2
    assert capsys.readouterr().err.startswith("attnseg trust: ")


def test_the_environment_can_answer_for_a_folder(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(project.VARIABLE, str(lab))
    monkeypatch.chdir(tmp_path)
    project.activate()
    assert project.active_packages() == ("lab_of_tests",)
    monkeypatch.setenv(project.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"ATTNSEG_PROJECT=.*nowhere: no project there"):
        project.activate()


def test_files_may_name_classes_of_a_trusted_project_alone(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import nn

    name = "lab_of_tests.attention.Ellipse"
    with pytest.raises(CheckpointError, match="not of a package that a file may name"):
        trusted_class(name, nn.Module, (), "a.ckpt")
    project.trust(lab)
    monkeypatch.chdir(lab)
    project.activate()
    assert trusted_class(name, nn.Module, (), "a.ckpt").__name__ == "Ellipse"
    for other in ("os.system", "subprocess.Popen", "conf.x.Y", "torch.nn.Linear"):
        with pytest.raises(CheckpointError, match="not of a package that a file may name"):
            trusted_class(other, nn.Module, (), "a.ckpt")


def test_help_and_composition_know_its_configs(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(lab)
    assert main(["train", "--cfg", "job", "experiment=own"]) == 2
    assert "own" in capsys.readouterr().err
    project.trust(lab)
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "ellipse" in text
    assert "teeth" in text
    assert main(["train", "--cfg", "job", "experiment=own", "attention.sharpness=7"]) == 0
    text = capsys.readouterr().out
    assert "sharpness: 7" in text
    assert "lab_of_tests.curves.sawtooth" in text
    assert main(["train", "experiment=own", "attention.sharpnes=7"]) == 2
    assert "did you mean 'attention.sharpness'?" in capsys.readouterr().err


def test_a_search_path_of_ones_own_is_kept_beside_it(
    lab: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "more" / "experiment").mkdir(parents=True)
    (tmp_path / "more" / "experiment" / "extra.yaml").write_text(
        "# @package _global_\ndefaults: [own]\nseed: 77\n"
    )
    project.trust(lab)
    monkeypatch.chdir(lab)
    words = [f"hydra.searchpath=[file://{tmp_path}/more]", "experiment=extra"]
    assert main(["train", "--cfg", "job", *words]) == 0
    text = capsys.readouterr().out
    assert "seed: 77" in text
    assert "lab_of_tests.losses.sparsity" in text
