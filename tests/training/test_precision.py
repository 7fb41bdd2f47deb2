"""Every value of trainer.precision trains, resumes to the bit and evaluates, or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from attnseg.commands.evaluate import main as evaluate
from attnseg.common.errors import INTERRUPTED, ConfigError
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.config.training import Precision
from attnseg.runs.archive import read_archive, write_archive
from attnseg.runs.folder import RunFolder
from attnseg.training.fit import fit
from attnseg.training.launch import launch
from tests.conftest import TINY, configure
from tests.exactness import assert_equal_runs
from tests.training.test_exact_resume import COMMON, stopped_at

REFUSED = ("16-true", "transformer-engine", "transformer-engine-float16")
ALIASES = ("64", "32", "16", "bf16")
USED = tuple(p for p in get_args(Precision) if p not in (*REFUSED, *ALIASES))
MODELS = {
    "gradnorm": ("schedule=gradnorm", "callbacks.ema.enabled=true", "model.encoder.norm=batch"),
    "deep": ("model.deep_supervision=1", "data.augment.on_device=true", "schedule=uncertainty"),
    "dwa": ("schedule=dwa", "attention=drr", "trainer.accumulate_grad_batches=2"),
    "supervised": ("attention=supervised", "loss.segmentation.blob=1"),
    "monai": ("model=basic_unet", "attention=none", "schedule=none"),
    "original": (
        "model=original",
        "attention=drr",
        "data.patch.size=null",
        "data.patch.per_case=1",
    ),
}
SAMPLE = [("64-true", "gradnorm", 2), ("bf16-true", "deep", 3)]
MATRIX = [(p, m, s) for p in USED for m in MODELS for s in (2, 3)]

# Evaluation is in float32, whatever a run was trained in.
FARTHEST = {"32-true": 1e-7, "64-true": 1e-5, "bf16-mixed": 0.02}
FARTHEST |= {"bf16-true": 0.02, "16-mixed": 0.02}


@pytest.mark.parametrize(
    ("precision", "model", "stop_at"),
    [*SAMPLE, *(pytest.param(*c, marks=pytest.mark.full) for c in MATRIX if c not in SAMPLE)],
)
def test_a_run_resumes_to_the_bit(
    precision: str, model: str, stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within the first epoch (of three steps) and at its end; then evaluated."""
    words = [*TINY, *COMMON, "schedule.total_epochs=2", "data.n_cases=9"]
    if MODELS[model][0] in ("model=basic_unet", "model=original"):  # without our pyramid's keys
        words = [word for word in words if not word.startswith(("model.", "attention."))]
    words += [f"trainer.precision={precision}", *MODELS[model]]

    def settings(folder: RunFolder) -> TrainConfig:
        return compose_checked("train", [*words, f"run.dir={folder.path}"], TrainConfig)

    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    assert fit(settings(whole)) == 0
    with stopped_at(stop_at, monkeypatch):
        assert fit(settings(broken)) == INTERRUPTED
    assert fit(settings(broken)) == 0
    assert_equal_runs(whole, broken)
    best = whole.read_status()["best"]["value"]
    assert (
        evaluate([f"checkpoint={whole.path}", "split=val", f"output_dir={tmp_path / 'out'}"]) == 0
    )
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text())["dice_positive"]
    assert measured == pytest.approx(best, abs=FARTHEST[precision])


@pytest.mark.parametrize("precision", REFUSED)
def test_what_cannot_train_is_refused_with_its_reason(precision: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"trainer\.precision={precision}: .*use .*bf16-mixed"):
        launch(configure(tmp_path / "run", f"trainer.precision={precision}"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("number", "name"), [(64, "64-true"), (32, "32-true"), (16, "16-mixed")])
def test_lightnings_numbers_are_names(number: int, name: str, tmp_path: Path) -> None:
    assert configure(tmp_path, f"trainer.precision={number}").trainer.precision == name


def test_half_of_a_double_run_is_half(tmp_path: Path) -> None:
    """`export half=true` shrinks what was trained in 64-true, too, and what it reads is float32."""
    double = {"weight": torch.rand(4, dtype=torch.float64)}
    write_archive(tmp_path / "x.safetensors", [({}, double)], half=True)
    [(_, weights)] = read_archive(tmp_path / "x.safetensors")
    assert weights["weight"].dtype == torch.float32
