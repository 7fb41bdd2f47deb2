"""The door: help, unknown commands, exit codes, and that nothing heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from attnseg.cli import COMMANDS, main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"attnseg {command}" in capsys.readouterr().out


def test_train_help_shows_groups_and_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    text = capsys.readouterr().out
    for word in ("anatomical", "two_phase", "lidc_drr", "original", "ddp", "optim.lr="):
        assert word in text


def test_an_unknown_command_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "no command 'trian'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "trainer.max_epoch=3"],
        ["train", "trainer.accelerator=warp"],
        ["train", "trainer.strategy=warp"],
        ["train", "model=unet", "attention=drr"],
        ["train", "resume=/does/not/exist"],
        ["train", "callbacks.checkpoint.monitor=val/dcie_positive"],
        ["train", "-m", "seed=1,2", "callbacks.checkpoint.monitor=val/dcie_positive"],
        ["train", "data=lidc_drr", "data.root=/does/not/exist"],
        ["train", "data=manifest", "data.root=/does/not/exist.csv"],
        ["train", "data=jsrt"],
        ["predict", "--help"],
        ["predict", "checkpoint=a", "images=b", "out=c", "tta=spin"],
        ["export", "checkpoint=a", "format=onxx"],
        ["compare", "--help"],
        ["compare", "runs", "splt=val"],
        ["runs", "--help"],
        ["runs", "list", "root=/does/not/exist"],
        ["drr", "--help"],
        ["drr", "ct=a", "out=b", "projection.bem=cone"],
    ],
)
def test_help_and_config_errors_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from attnseg.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'pytorch_lightning', 'monai', 'SimpleITK', 'wandb', 'matplotlib'};"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    assert "loaded: []" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["trainer.max_epoch=3"], "did you mean 'trainer.max_epochs'?"),
        (["+trainer.max_epoch=3"], "did you mean 'trainer.max_epochs'?"),
        (["++optim.learning_rate=3"], "optim.learning_rate: no such key"),
        (["data.batch_size=many"], "data.batch_size"),
        (["data.batch_size=0"], "data.batch_size"),
        (["attention=anatomic"], "anatomic"),
        (["schedule=two_phases"], "two_phases"),
        (["nonsense"], "nonsense"),
        (["experiment=nothing"], "nothing"),
        (["data=lidc_drr"], "data.root"),
        (["data=lidc_drr", "data.root=/does/not/exist"], "/does/not/exist"),
        (["data=manifest", "data.root=/does/not/exist.csv"], "/does/not/exist.csv"),
        (["trainer.accelerator=warp"], "warp"),
        (["trainer.strategy=warp"], "warp"),
        (["trainer.devices=0"], "trainer.devices=0"),
        (["trainer.devices=[]"], "trainer.devices=[]"),
        (["trainer.limit_train_batches=0"], "trainer.limit_train_batches"),
        (["schedule=null"], "must be a string"),
        (["=3"], "=3"),
        (["schedule.phases.jiont.epochs=3"], "jiont"),
        (["optim.betas=[0.9]"], "optim.betas.1: needed"),
        (["optim.betas=[1.0,1.0]"], "optim.betas.0"),
        (["optim.lr=inf"], "finite"),
        (["data.root=/x"], "data.root: no such key with data=phantom"),
        (["data.patch.size=33"], "data.patch.size"),
        (
            ["model.encoder.weights=/x.pt"],
            "model.encoder.weights: no such key with model.encoder=light (resnet18,",
        ),
        (["run.name=a/b"], "run.name"),
        (["resume=/does/not/exist"], "resume=/does/not/exist"),
        (["callbacks.checkpoint.monitor=val/dcie_positive"], "did you mean val/dice_positive"),
        (["attention=none", "callbacks.early_stopping.monitor=val/nss"], "val/nss: no such"),
        (["-m", "seed=1,2", "callbacks.checkpoint.monitor=val/x"], "monitor=val/x: no such"),
        (["--config-dir=/does/not/exist"], "/does/not/exist"),
        (["schedule=nil,nothing", "-m"], "nothing"),
        (["seed=1,2", "run.dir=x", "-m"], "run.root"),
        (["run.name=a,b", "-m"], "run.name cannot vary"),
        (["optim.lr=interval(1,2)", "-m"], "sweep=optuna"),
        (["sweep=optuna"], "add -m"),
        (["hydra/launcher=joblib", "seed=1,2", "-m"], "launcher=..."),
        (["sweep=optuna", "-m"], "nothing to search"),
        (["launcher=nothing", "seed=1,2", "-m"], "nothing"),
        (["seed=1", "--cfg", "job", "optim.lr=[1,"], "[1,"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    assert main(["train", f"run.root={tmp_path}", *arguments]) == 2
    captured = capsys.readouterr()
    assert reason in captured.err
    assert "Traceback" not in captured.err + captured.out


def test_compiling_without_a_compiler_is_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["train", f"run.root={tmp_path}", "trainer.compile=true"]) == 2
    told = capsys.readouterr().err
    assert "no-such-compiler" in told
    assert "apt install g++" in told
    assert "Traceback" not in told


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m attnseg.cli data check data.n_cases=3 data.size=64 | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
