"""attnseg export: weights that cannot execute code, usable wherever a checkpoint is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from attnseg.cli import main
from attnseg.runs.checkpoints import load_checkpoint
from attnseg.runs.folder import RunFolder


def test_weights_and_config_come_out_as_they_went_in(finished: RunFolder, tmp_path: Path) -> None:
    output = tmp_path / "nodules.safetensors"
    assert main(["export", f"checkpoint={finished.path}", f"output={output}"]) == 0
    there, back = load_checkpoint(str(finished.path)), load_checkpoint(str(output))
    assert back.config == there.config
    assert (back.threshold, back.identity) == (there.threshold, there.identity)
    assert back.weights.keys() == there.weights.keys()
    assert all(torch.equal(back.weights[name], value) for name, value in there.weights.items())
    beside = yaml.safe_load((tmp_path / "nodules.yaml").read_text())
    assert beside == there.config.model_dump(mode="json")


def test_the_default_place_is_in_the_run_folder(
    finished: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", f"checkpoint={finished.path}"]) == 0
    [written] = (finished.path / "export").glob("*.safetensors")
    assert str(written) in capsys.readouterr().out


def test_mistakes_are_one_message(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        ([], "checkpoint is not set"),
        (["checkpoint=/none"], "checkpoint=/none: no such file or folder"),
        ([f"checkpoint={finished.path}", "output=w.pt"], "ends in .safetensors"),
        ([f"checkpoint={finished.path}", "outputs=x"], "did you mean 'output'"),
    ):
        assert main(["export", *words]) == 2
        assert message in capsys.readouterr().err
