"""What `attnseg train` takes on its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from attnseg.cli import main
from attnseg.commands.train import without_hyphens
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from tests.conftest import TINY

WANDB = Path(__file__).resolve().parents[2] / "experiments" / "wandb_sweep" / "sweep.yaml"


def agents_words(hyphens: bool) -> list[str]:
    """What a W&B agent passes: one value a parameter, in its own formatting."""
    chosen = {
        key: each["values"][0] if "values" in each else each["min"]
        for key, each in yaml.safe_load(WANDB.read_text())["parameters"].items()
    }
    return [f"{'--' * hyphens}{key}={value}" for key, value in chosen.items()]


@pytest.mark.parametrize("hyphens", [True, False])
def test_a_wandb_agent_can_drive_a_training(
    hyphens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.training import fit as module

    seen: list[Any] = []
    monkeypatch.setattr(module, "fit", lambda config: seen.append(config) or 0)
    command = yaml.safe_load(WANDB.read_text())["command"]
    assert command[:2] == ["attnseg", "train"]
    assert command[-1] == "${args_no_hyphens}"
    words = [*command[1:-1], f"run.root={tmp_path}", *agents_words(hyphens)]
    assert main(words) == 0
    assert (seen[0].optim.lr, seen[0].attention.name) == (0.0003, "drr")
    assert seen[0].logger.wandb


def test_hyphens_of_hydra_stay() -> None:
    flags = ["--cfg=job", "--config-dir=x", "--multirun", "-m", "--info"]
    assert without_hyphens(flags) == flags
    assert without_hyphens(["--optim.lr=1e-3", "--seed=2"]) == ["optim.lr=1e-3", "seed=2"]


def test_a_mistyped_key_with_hyphens_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--optim.learnrate=1"]) == 2
    assert "optim.learnrate: no such key" in capsys.readouterr().err


def test_an_experiment_can_bring_its_own_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.training import fit as module

    seen: list[Any] = []
    monkeypatch.setattr(module, "fit", lambda config: seen.append(config) or 0)
    words = ["train", "-m", "experiment=phantom_study", f"run.root={tmp_path}"]
    assert main([*words, "seed=7"]) == 0  # what is given takes the place of its own
    assert len(seen) == 12
    assert {config.seed for config in seen} == {7}
    (path,) = tmp_path.glob("sweeps/phantom_study-*/sweep.json")
    assert sorted(json.loads(path.read_text())["varied"]) == ["attention", "schedule"]


def test_the_study_is_36_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from attnseg.commands.sweep import grid
    from attnseg.config.compose import hydra_ready
    from attnseg.sweeps.words import read_words

    with hydra_ready():
        record = grid(read_words(["experiment=phantom_study", f"run.root={tmp_path}"]), "")
    assert len({job.run_id for job in record.jobs}) == 36
    assert record.jobs[0].name == "attention=drr,schedule=two_phase,seed=1"


def test_a_sweep_cannot_have_one_folder_but_an_experiment_may_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.training import fit as module

    seen: list[Any] = []
    monkeypatch.setattr(module, "fit", lambda config: seen.append(config) or 0)
    words = ["train", "-m", "experiment=demo", f"run.root={tmp_path}", "seed=1,2"]
    assert main([*words, "run.dir=x"]) == 2
    assert main(words) == 0
    assert len({config.run.dir for config in seen}) == 2
    assert all(str(tmp_path) in config.run.dir for config in seen)


def test_launcher_and_sweep_do_not_define_a_run() -> None:
    from attnseg.runs.identity import run_identity

    plain = compose_checked("train", list(TINY), TrainConfig)
    words = [*TINY, "sweep=optuna", "launcher=joblib"]
    assert run_identity(compose_checked("train", words, TrainConfig)) == run_identity(plain)


def test_what_does_not_go_with_m_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "seed=1,2", "--cfg", "job"]) == 2
    assert "leave it out to see a configuration" in capsys.readouterr().err


def test_more_configs_come_from_a_search_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.training import fit as module

    seen: list[Any] = []
    monkeypatch.setattr(module, "fit", lambda config: seen.append(config) or 0)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\noptim:\n  lr: 0.5\n")
    path = f"hydra.searchpath=[file://{tmp_path}]"
    words = [path, "experiment=mine", "seed=1,2", f"run.root={tmp_path}"]
    assert main(["train", "-m", *words]) == 0
    assert [config.optim.lr for config in seen] == [0.5, 0.5]
