"""Paths that no file system takes are one message, in every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.cli import main

COMMANDS = (
    ("train", "run.dir={}"),
    ("train", "run.root={}"),
    ("train", "resume={}"),
    ("train", "fork={}"),
    ("train", "warmstart={}"),
    ("train", "data=manifest", "data.root={}"),
    ("train", "data.split.kind=fixed", "data.split.file={}"),
    ("evaluate", "checkpoint={}"),
    ("export", "checkpoint={}"),
    ("predict", "checkpoint={}", "images=x", "out=y"),
    ("compare", "{}"),
    ("runs", "list", "{}"),
    ("runs", "show", "{}"),
    ("runs", "prune", "{}", "state=failed"),
    ("sync", "{}"),
    ("data", "check", "data=manifest", "data.root={}"),
    ("data", "show", "data.n_cases=3", "data.size=64", "output_dir={}"),
    ("data", "build", "source={}", "out=y"),
    ("data", "mask", "annotations={}", "ct=x", "out=y"),
    ("drr", "ct={}", "out=y"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words) for words in COMMANDS])
def test_an_impossible_path_is_one_message(
    words: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("runs").mkdir()
    Path("circle").symlink_to("circle")
    for path in ("x" * 256, "file/inside", "circle/inside"):
        arguments = [word.format(path) for word in words]
        arguments += ["trainer.accelerator=cpu"] if words[0] == "train" else []
        assert main(arguments) == 2, path
        told = capsys.readouterr()
        assert "Traceback" not in told.err + told.out
        assert path[:100] in told.err + told.out or "too long" in told.err


def test_a_run_name_has_room_for_the_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"run.name={'患' * 81}"]) == 2
    assert "run.name: a folder's name can have 240 bytes" in capsys.readouterr().err
