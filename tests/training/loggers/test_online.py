"""What a W&B server gets from training runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attnseg.cli import main
from attnseg.common.errors import FAILED
from attnseg.config import SweepMembership
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_identity
from attnseg.runs.ledger import read_ledger
from attnseg.training.callbacks.checkpointing import Checkpointing
from attnseg.training.fit import fit
from attnseg.training.identified import identified
from attnseg.training.launch import launch
from attnseg.training.loggers.described import group_of
from attnseg.training.loggers.marks import is_sent
from tests.conftest import TINY, configure
from tests.training.loggers.conftest import QUICK
from tests.training.loggers.stub import Stub, StubRun
from tests.training.loggers.test_offline import interrupt_at, swept


def epochs(run: StubRun) -> list[int]:
    return [row["epoch"] for row in run.rows("epoch")]


def assert_whole(run: StubRun, folder: Path) -> None:
    """Every epoch once, equal to the ledger's; steps only rise."""
    rows = read_ledger(RunFolder(folder).ledger)
    assert epochs(run) == [int(row["epoch"]) for row in rows]
    sent = [row["val/loss/total"] for row in run.rows("epoch")]
    assert sent == [float(row["val/loss/total"]) for row in rows]
    assert run.steps() == sorted(set(run.steps()))
    losses = [row["trainer/global_step"] for row in run.rows("step/loss/total")]
    assert losses == list(range(1, int(rows[-1]["step"]) + 1))


def test_a_run_that_stops_and_goes_on_is_one_run(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*QUICK, "logger.log_every_n_steps=1", "logger.group=mine", "logger.tags=[a]")
    config = swept(configure(tmp_path, *words))
    interrupt_at(3, monkeypatch, config)
    run = stub.only()
    assert (run.exit_codes, run.preempting) == ([75], True)
    assert epochs(run) == [1]
    assert fit(config) == 0
    run = stub.only()
    assert run.id == run_identity(identified(config))
    assert run.display_name == "phantom-dual_pathway-anatomical-two_phase-s1"
    assert (run.group, run.job_type, run.tags) == ("mine", "train", ["a"])
    assert run.config["sweep/attention"]["value"] == "anatomical"
    assert run.config["optim"]["value"]["lr_factors"]["attention"] == 2.0
    assert run.exit_codes == [75, 0]
    assert_whole(run, tmp_path)
    rows = read_ledger(RunFolder(tmp_path).ledger)
    losses = [float(row["val/loss/total"]) for row in rows]
    assert run.summary["val/loss/total"] == {"min": min(losses), "last": losses[-1]}
    dice = [float(row["val/dice_positive"]) for row in rows]
    assert run.summary["val/dice_positive"]["max"] == max(dice)
    assert is_sent(RunFolder(tmp_path))
    assert stub.errors == []


def test_an_epoch_that_is_trained_again_is_not_sent_again(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the ledger's row and last.ckpt: the resume repeats the epoch."""
    config = configure(tmp_path, *QUICK, "logger.log_every_n_steps=1")
    original = Checkpointing.on_train_epoch_end

    def crash(self: Checkpointing, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("the disk is gone")
        original(self, trainer, pl_module)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpointing, "on_train_epoch_end", crash)
        with pytest.raises(RuntimeError, match="the disk is gone"):
            fit(config)
    assert epochs(stub.only()) == [1, 2]
    assert fit(config) == 0
    assert stub.only().exit_codes == [1, 0]
    assert_whole(stub.only(), tmp_path)


def test_a_run_that_was_killed_goes_on_as_one(stub: Stub, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from attnseg.cli import main;"
        "from attnseg.training.callbacks.interruption import Interruption;"
        "kill = lambda self, trainer: trainer.global_step == 3 and os.kill(os.getpid(), 9);"
        "Interruption._asked = kill; sys.exit(main(sys.argv[1:]))"
    )
    options = (*QUICK, "logger.log_every_n_steps=1", "callbacks.checkpoint.every_n_steps=1")
    words = ["train", *TINY, f"run.dir={tmp_path}", *options]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True)
    assert done.returncode == -9, done.stderr
    assert RunFolder(tmp_path).read_status()["state"] == "running"
    assert fit(configure(tmp_path, *options)) == 0
    assert_whole(stub.only(), tmp_path)


def test_a_run_that_began_offline_is_whole_online(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*QUICK, "logger.log_every_n_steps=1")
    interrupt_at(3, monkeypatch, configure(tmp_path, *words, "logger.offline=true"))
    assert not stub.runs
    assert fit(configure(tmp_path, *words)) == 0
    assert_whole(stub.only(), tmp_path)
    assert len(stub.only().rows("overlays/xray")) == 2


def test_extras_are_sent_where_asked_for(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extras = ("logger.log_checkpoint=best", "logger.save_code=true", "logger.log_data=true")
    assert fit(configure(tmp_path / "with", *QUICK, *extras, "seed=2")) == 0
    run = stub.only()
    artifacts = {a["artifactTypeName"]: a for a in run.artifacts}
    assert artifacts["model"]["artifactCollectionName"] == f"model-{run.id}"
    assert {a["alias"] for a in artifacts["model"]["aliases"]} == {"best", "latest"}
    blobs = {name.split("/", 1)[1]: content for name, content in stub.blobs.items()}
    assert blobs["best.ckpt"] == (tmp_path / "with" / "checkpoints" / "best.ckpt").read_bytes()
    assert blobs["attnseg/training/module.py"].startswith(b'"""The LightningModule')
    assert "diff.patch" in blobs
    assert run.commit
    digest = RunFolder(tmp_path / "with").read_status()["data"]["digest"]
    assert run.config["data_digest"]["value"] == digest
    assert artifacts["dataset"]["artifactCollectionName"] == f"phantom-{digest[:8]}"
    assert blobs["content.json"] == (tmp_path / "with" / "content.json").read_bytes()
    table = next(name for name in run.files if name.startswith("media/table/cases"))
    assert b"attention_gt_overlap" in run.files[table]
    assert b"overlays/attention" in run.files[table]  # a picture beside the numbers
    assert any(name.startswith("media/images/mask/overlays") for name in run.files)
    assert fit(configure(tmp_path / "without", *QUICK)) == 0
    (other,) = (each for each in stub.runs.values() if each is not run)
    assert {a["artifactTypeName"] for a in other.artifacts} == {"run_table"}
    assert other.commit == run.commit  # where the code stands is told without being asked
    assert not (tmp_path / "without" / "code").exists()


def test_a_run_that_fails_raises_an_alert_where_asked_for(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.losses.attention import AttentionLoss

    original = AttentionLoss.forward

    def poisoned(self: AttentionLoss, *arguments: Any) -> Any:
        value = original(self, *arguments)
        return value._replace(value=value.value * float("nan"))

    monkeypatch.setattr(AttentionLoss, "forward", poisoned)
    assert fit(configure(tmp_path / "loud", *QUICK, "logger.alert_on_failure=true")) == FAILED
    run = stub.only()
    (alert,) = run.alerts
    assert alert["severity"] == "ERROR"
    assert "non-finite loss" in alert["text"]
    assert run.exit_codes == [1]
    assert fit(configure(tmp_path / "quiet", *QUICK, "seed=2")) == FAILED
    assert sum(len(each.alerts) for each in stub.runs.values()) == 1


def test_a_sweep_of_three_gives_three_runs(stub: Stub, tmp_path: Path) -> None:
    words = [*TINY, *QUICK, f"run.root={tmp_path}", "schedule.total_epochs=2"]
    assert main(["train", "-m", *words, "logger.group=three", "seed=1,2,3"]) == 0
    assert len(stub.runs) == 3
    assert {run.config["seed"]["value"] for run in stub.runs.values()} == {1, 2, 3}
    for run in stub.runs.values():
        assert stub.opened[run.id] == 1
        assert (run.group, epochs(run), run.exit_codes) == ("three", [1, 2], [0])


def test_two_processes_give_one_run(stub: Stub, tmp_path: Path) -> None:
    words = ("trainer=ddp_cpu", *TINY[-2:], *QUICK, "logger.log_every_n_steps=1")
    assert launch(configure(tmp_path, *words, "data.batch_size=1")) == 0
    run = stub.only()
    assert stub.opened == {run.id: 1}
    assert_whole(run, tmp_path)
    table = next(n for n in run.files if n.startswith("media/table/cases"))
    cases = (tmp_path / "report" / "cases.csv").read_text().splitlines()
    assert len(cases) == 3, "the cases of both ranks, and a header"
    assert run.files[table].count(b"phantom-") == 4


def test_a_sweep_agent_gives_out_the_id(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.training.loggers.wandb_run import wandb_id

    config, folder = configure(tmp_path), RunFolder(tmp_path)
    monkeypatch.setenv("WANDB_RUN_ID", "given")
    assert wandb_id(config, folder) == run_identity(config)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    assert wandb_id(config, folder) == "given"


def test_all_that_was_measured_in_the_best_epoch_is_in_the_summary(
    stub: Stub, tmp_path: Path
) -> None:
    assert fit(configure(tmp_path, *QUICK)) == 0
    run, folder = stub.only(), RunFolder(tmp_path)
    best = str(folder.read_status()["best"]["epoch"])
    (row,) = (row for row in read_ledger(folder.ledger) if row["epoch"] == best)
    told = {k: v for k, v in run.summary.items() if k.startswith("at_best/val/")}
    wanted = {k: float(v) for k, v in row.items() if k.startswith("val/") and v}
    assert told == {f"at_best/{key}": value for key, value in wanted.items()}
    froc = next(name for name in run.files if name.startswith("media/table/at_best/froc"))
    assert b"false positives per image" in run.files[froc]


def test_an_evaluation_is_in_the_run_of_its_training(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(configure(tmp_path, *QUICK)) == 0
    words = [f"checkpoint={tmp_path}", "accelerator=cpu", "n_pictures=0", "logger=wandb"]
    assert main(["evaluate", *words]) == 0
    run = stub.only()
    (results,) = (tmp_path / "evaluate").iterdir()
    found = json.loads((results / "metrics.json").read_text())
    told = run.summary[f"evaluate/{results.name}/dice_positive"]
    assert told == pytest.approx(found["dice_positive"])
    assert any(f"evaluate/{results.name}/froc" in name for name in run.files)
    assert "W&B: http" in capsys.readouterr().out
    assert is_sent(RunFolder(tmp_path))
    (results / "metrics.json").write_text(json.dumps(found | {"dice_positive": 0.5}))
    assert not is_sent(RunFolder(tmp_path))
    assert main(["sync", str(tmp_path)]) == 0
    assert stub.only().summary[f"evaluate/{results.name}/dice_positive"] == 0.5
    stub.stop()
    assert main(["evaluate", *words]) == 0
    assert f"attnseg sync {tmp_path} sends it later" in capsys.readouterr().out


def test_two_sweeps_of_one_name_are_two_groups(tmp_path: Path) -> None:
    one, two = (
        swept(configure(tmp_path)).model_copy(
            update={
                "run": configure(tmp_path).run.model_copy(
                    update={"sweep": SweepMembership(name="s", id=number)}
                )
            }
        )
        for number in ("1", "2")
    )
    assert group_of(one) == "s-1" != group_of(two)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("logger.tags=[{}]", "logger.tags.0: string should have at most 64 characters"),
        ("logger.group={}", "logger.group: string should have at most 128 characters"),
    ],
)
def test_what_wandb_would_refuse_is_told_with_its_limit(
    word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", word.format("x" * 129), "logger=wandb"]) == 2
    assert said in capsys.readouterr().err
