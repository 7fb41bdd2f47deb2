"""One folder with a name of every kind, through the commands that a model goes through."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attnseg.cli import main
from tests.conftest import TINY

NAME = "患者 é #[1](x) {y} 'a' \"b\" & ! ~; lr=1,s=2 $H \\ 100%?"


@pytest.mark.full
def test_every_command_takes_a_name_of_any_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(NAME).mkdir()
    monkeypatch.chdir(NAME)
    run, swept = f"runs/{NAME}", "runs/attention=drr,seed=1-abc"
    images = [f"images={NAME}.png", f"out=p {NAME}"]
    assert main(["train", *TINY, f"run.dir={run}", "logger=[wandb,tensorboard]"]) == 0
    shutil.copytree(run, swept)
    assert main(["train", *TINY, f"run.dir={NAME}", f"warmstart={run}"]) == 0
    assert main(["evaluate", f"checkpoint={run}", f"output_dir=~{NAME}", "n_pictures=1"]) == 0
    words = [f"checkpoint=[{swept},{run}]", f"output_dir=-{NAME}", "n_pictures=0"]
    assert main(["evaluate", *words]) == 0
    assert main(["analyze", f"checkpoint={run}", f"output_dir=a {NAME}"]) == 0
    grey(Path(f"{NAME}.png"))
    assert main(["predict", f"checkpoint={run}", *images]) == 0
    assert main(["export", f"checkpoint={run}", f"output={NAME}.safetensors"]) == 0
    assert main(["compare", run, swept, f"output_dir=c {NAME}", "n_resamples=100"]) == 0
    assert main(["runs", "list", run]) == 0
    assert main(["runs", "show", run]) == 0
    assert main(["data", "show", "data.n_cases=3", "data.size=64", f"output_dir=d {NAME}"]) == 0
    there = (f"~{NAME}/metrics.json", f"-{NAME}/metrics.json", f"p {NAME}/index.html")
    made = (f"c {NAME}/compare.html", f"d {NAME}/phantom-all.png", f"{NAME}.safetensors")
    for name in (*there, *made):
        assert Path(name).is_file(), name


def grey(path: Path) -> None:
    """A radiograph of noise."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (96, 96), dtype=np.uint8)
    Image.fromarray(noise).save(path)
