"""A project is written as the example stands, under any name, and goes through everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnseg.cli import main
from attnseg.commands.new import write_project
from attnseg.common.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "examples" / "mylab"


def _files(folder: Path) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.is_file() and "cache" not in str(path)]
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def test_it_is_the_example_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    assert main(["new", "ourlab"]) == 0
    assert "trusted" in capsys.readouterr().out
    wanted = {k.replace("mylab", "ourlab"): v for k, v in _files(EXAMPLE).items()}
    assert _files(tmp_path / "ourlab") == {
        k: v.replace("mylab", "ourlab") for k, v in wanted.items()
    }
    assert os.access(tmp_path / "ourlab" / "try.sh", os.X_OK)
    trusted = (tmp_path / "config" / "attnseg" / "trusted").read_text()
    assert trusted == f"{tmp_path / 'ourlab'}\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my-lab", "a package's name is needed"),
        ("MyLab", "a package's name is needed"),
        ("torch", "there is a package of that name already"),
        ("random", "there is a package of that name already"),
        ("full", "something is there already"),
    ],
)
def test_names_and_folders_that_cannot_be_are_refused(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(ConfigError, match=said):
        write_project(name, tmp_path / name)
    assert not (tmp_path / name / "conf").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_its_parts_go_through_everything(tmp_path: Path) -> None:
    """Under another name of package and folder, from another folder."""
    folder = tmp_path / "a lab"
    write_project("otherlab", folder)
    environment = os.environ | {"PYTHON": sys.executable, "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [str(folder / "try.sh")],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "tensors are equal" in done.stdout
    assert done.stdout.rstrip().endswith("== done")
    cells = json.loads((folder / "otherlab.ipynb").read_text())["cells"]
    script = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    environment["ATTNSEG_PROJECT"] = str(folder)
    words = [sys.executable, "-c", script + "\nassert found.attention.shape == (300, 260)"]
    done = subprocess.run(
        words, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    tests = [sys.executable, "-m", "pytest", "-q", "tests", "-p", "no:cacheprovider"]
    done = subprocess.run(tests, cwd=folder, env=environment, check=False, capture_output=True)
    assert done.returncode == 0, done.stdout
