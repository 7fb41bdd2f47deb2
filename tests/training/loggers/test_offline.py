"""Without a key: no prompt, no network, and files that hold the whole run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attnseg.common.errors import INTERRUPTED
from attnseg.config import TrainConfig, validate
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_identity
from attnseg.runs.ledger import read_ledger
from attnseg.training.callbacks.interruption import Interruption
from attnseg.training.fit import fit
from attnseg.training.identified import identified
from attnseg.training.loggers.media import load_cases
from tests.conftest import TINY, configure
from tests.training.loggers.wandb_file import offline_runs

pytestmark = pytest.mark.usefixtures("no_key")


def swept(config: TrainConfig) -> TrainConfig:
    sweep = {"name": "weights", "id": "s1", "varied": {"attention": "anatomical", "seed": 1}}
    plain = config.model_dump(mode="json")
    return validate({**plain, "run": {**plain["run"], "sweep": sweep}}, TrainConfig)


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch, config: TrainConfig) -> None:
    """Train until a step, and no further."""
    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "_asked", lambda self, trainer: trainer.global_step == step)
        assert fit(config) == INTERRUPTED


def test_the_file_holds_the_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    words = ("logger=wandb", "logger.log_every_n_steps=1", "logger.log_checkpoint=best")
    config = swept(configure(folder.path, *words, "logger.tags=[a,b]"))
    assert fit(config) == 0
    assert f"W&B: offline (no key is set); `attnseg sync {folder.path}`" in capsys.readouterr().out
    (found,) = offline_runs(folder.path)
    assert found.run.run_id == run_identity(identified(config))
    assert found.run.run_group == "weights-s1"
    assert found.run.job_type == "train"
    assert found.run.display_name == "phantom-dual_pathway-anatomical-two_phase-s1"
    assert list(found.run.tags) == ["a", "b"]
    assert found.exit_codes == [0]
    assert found.config["schedule"]["phases"]["joint"]["weights"]["attention"]["end"] == 0.05
    assert found.config["sweep/attention"] == "anatomical"
    assert found.column("epoch") == [1, 2]
    rows = read_ledger(folder.ledger)
    assert found.column("val/loss/total") == [float(row["val/loss/total"]) for row in rows]
    steps = [row["_step"] for row in found.history]
    assert steps == sorted(set(steps))
    with_losses = [row for row in found.history if "step/loss/total" in row]
    assert [row["trainer/global_step"] for row in with_losses] == [1, 2, 3, 4]
    assert {artifact.type for artifact in found.artifacts} == {"model", "run_table"}


def test_metrics_have_their_axes_and_ends(tmp_path: Path) -> None:
    assert fit(configure(tmp_path, "logger=wandb", "schedule=none")) == 0
    (found,) = offline_runs(tmp_path)
    by_name = {metric.name or metric.glob_name: metric for metric in found.metrics}
    assert by_name["val/dice_positive"].summary.max
    assert not by_name["val/dice_positive"].summary.min
    assert by_name["val/loss/total"].summary.min
    assert by_name["val/attention_gt_distance"].summary.min
    assert by_name["val/dice_positive"].step_metric == "epoch"
    assert by_name["val/*"].step_metric == by_name["train/*"].step_metric == "epoch"
    assert by_name["step/*"].step_metric == "trainer/global_step"


def test_overlays_have_layers_and_cases_have_a_table(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert fit(configure(tmp_path, "logger=wandb")) == 0
    (found,) = offline_runs(tmp_path)
    for key in ("overlays/xray", "overlays/attention"):
        (first, last) = found.column(key)
        for images in (first, last):
            assert set(images["all_masks"][0]) == {"prediction", "ground_truth"}
    media = tmp_path / "wandb" / "latest-run" / "files"
    assert (media / found.column("overlays/xray")[0]["filenames"][0]).is_file()
    (kept, _) = sorted((folder.report / "overlays").glob("*.npz"))
    (case,) = load_cases(kept)
    assert case.truth.any()
    assert case.xray.shape == case.attention.shape == (64, 64)
    table = json.loads((media / found.summary["cases"]["path"]).read_text())
    assert table["columns"][:2] == ["case_id", "patient_id"]
    assert {"dice", "attention_gt_overlap"} <= set(table["columns"])
    assert len(table["data"]) == 2
    best = folder.read_status()["best"]
    dice = [row[table["columns"].index("dice")] for row in table["data"]]
    positives = [value for value in dice if value is not None]
    assert sum(positives) / len(positives) == pytest.approx(best["value"], rel=1e-4)


def test_one_run_after_the_other_in_one_process(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert fit(configure(tmp_path / name, "logger=wandb", "schedule=none")) == 0
        assert len(offline_runs(tmp_path / name)) == 1


def test_a_resume_offline_begins_a_second_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why `attnseg sync` makes the run anew from the ledger."""
    config = configure(tmp_path, "logger=wandb")
    interrupt_at(3, monkeypatch, config)
    assert fit(config) == 0
    first, second = offline_runs(tmp_path)
    assert first.run.run_id == second.run.run_id
    assert first.column("epoch") == [1]
    assert second.column("epoch") == [2]
    assert (first.exit_codes, second.exit_codes) == ([75], [0])


def test_without_it_a_run_imports_no_wandb(tmp_path: Path) -> None:
    script = (
        "import sys; from attnseg.cli import main; code = main(sys.argv[1:]);"
        "print('wandb' in sys.modules, code)"
    )
    words = ["train", *TINY, f"run.dir={tmp_path / 'run'}", "schedule.total_epochs=2"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False 0", done.stdout + done.stderr


def test_what_was_a_name_still_is(tmp_path: Path) -> None:
    plain: dict[str, Any] = configure(tmp_path).model_dump(mode="json")
    plain["logger"] = {"name": "wandb", "project": "old"}
    logger = validate(plain, TrainConfig).logger
    assert logger.wandb
    assert logger.project == "old"
