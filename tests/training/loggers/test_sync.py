"""`attnseg sync`: offline runs become whole W&B runs, once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attnseg.cli import main
from attnseg.runs.folder import RunFolder
from attnseg.training.fit import fit
from tests.conftest import configure
from tests.training.loggers.conftest import QUICK
from tests.training.loggers.stub import Stub
from tests.training.loggers.test_offline import interrupt_at, swept
from tests.training.loggers.test_online import assert_whole, epochs
from tests.training.loggers.wandb_file import offline_runs

OFFLINE = (*QUICK, "logger.offline=true", "logger.log_every_n_steps=1")


def test_an_interrupted_and_resumed_run_becomes_one(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "one"
    config = swept(configure(folder, *OFFLINE, "logger.log_checkpoint=best"))
    interrupt_at(3, monkeypatch, config)
    assert main(["sync", str(folder)]) == 0
    run = stub.only()
    assert (epochs(run), run.exit_codes, run.preempting) == ([1], [75], True)
    assert fit(config) == 0
    assert len(offline_runs(folder)) == 2
    capsys.readouterr()

    assert main(["sync", f"root={tmp_path / 'runs'}"]) == 0
    run = stub.only()
    assert f"{folder}: 2 epochs: {stub.url}/tester/attnseg/runs/{run.id}" in capsys.readouterr().out
    assert_whole(run, folder)
    assert (run.group, run.job_type, run.exit_codes) == ("weights-s1", "train", [75, 0])
    assert run.config["sweep/attention"]["value"] == "anatomical"
    assert len(run.rows("overlays/xray")) == 2
    assert "model" in {artifact["artifactTypeName"] for artifact in run.artifacts}
    assert "max" in run.summary["val/dice_positive"]
    assert stub.errors == []

    before = len(stub.requests)
    assert main(["sync", f"root={tmp_path / 'runs'}"]) == 0
    assert "nothing to send" in capsys.readouterr().out
    assert len(stub.requests) == before
    assert all(
        piece.path.with_name(f"{piece.path.name}.synced").exists() for piece in offline_runs(folder)
    )

    assert main(["sync", str(folder), "force=true"]) == 0
    assert_whole(stub.only(), folder)


def test_what_an_outage_cut_off_is_sent_later(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(tmp_path, *QUICK, "logger.finish_timeout_s=1", "logger.log_every_n_steps=1")
    stub.on_history = lambda run: setattr(stub, "mode", "error")  # it gets one request, no more
    assert fit(config) == 0
    stub.on_history = lambda run: None
    stub.mode = "up"
    import wandb

    wandb.teardown()  # another process
    assert main(["sync", str(tmp_path)]) == 0
    run = stub.only()
    assert sorted(set(epochs(run))) == epochs(run) == [1, 2]
    assert run.steps() == sorted(set(run.steps()))


def test_one_by_one_and_what_cannot_be_sent_is_said(
    stub: Stub, tmp_path: Path, finished: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run without logger=wandb is sent where it is named, and left alone in a root."""
    for name in ("a", "b"):
        shutil.copytree(finished.path, tmp_path / name)
    broken = tmp_path / "broken"
    shutil.copytree(finished.path, broken)
    (broken / "config.yaml").write_text("seed: yes please")
    assert main(["sync", str(tmp_path / "a"), f"root={tmp_path}", "dry_run=true"]) == 0
    assert f"{tmp_path / 'a'}: would be sent" in capsys.readouterr().out
    assert not stub.requests
    assert main(["sync", str(tmp_path / "a"), str(broken)]) == 1
    out = capsys.readouterr().out
    assert f"{broken}: config.yaml cannot be used" in out
    assert "runs sent: 1" in out
    assert epochs(stub.only()) == [1, 2]
    assert len(stub.only().rows("overlays/picture")) == 2, "no arrays were kept, so as it is drawn"
    assert main(["sync", f"root={tmp_path}"]) == 1
    assert "nothing to send" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["error", "hang", "gone"])
def test_no_server_is_one_message(
    mode: str, stub: Stub, tmp_path: Path, finished: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    from attnseg.training.loggers import wandb_run

    copy = tmp_path / "run"
    shutil.copytree(finished.path, copy)
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("init_timeout_s: 30.0", "init_timeout_s: 1.0"))
    stub.mode = mode
    if mode == "gone":
        stub.stop()
    assert wandb_run.has_key()
    assert main(["sync", str(copy)]) == 1
    errors = capfd.readouterr().err
    assert errors.startswith(f"attnseg sync: {stub.url} ")
    assert len(errors.splitlines()) == 1
    assert not (copy / "wandb" / "sent.json").exists()


def test_a_server_that_refuses_is_said_run_by_run(
    stub: Stub, tmp_path: Path, finished: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished.path, copy)
    stub.mode = "refuse"
    assert main(["sync", str(copy)]) == 1
    errors = capfd.readouterr().err
    assert f"{copy}: not sent: " in errors
    assert "Traceback" not in errors


@pytest.mark.usefixtures("no_key")
def test_no_key_is_one_message(finished: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", str(finished.path)]) == 2
    assert "run `wandb login`, or set WANDB_API_KEY" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reasons"),
    [
        (["rot=x", "force=maybe"], ["rot: no such key; did you mean 'root'?", "force: "]),
        (["/does/not/exist"], ["paths=/does/not/exist: no run there"]),
        (["root=/does/not/exist"], ["root=/does/not/exist: no run there"]),
        (["paths=3"], ["paths: "]),
    ],
)
def test_a_users_mistake_is_one_message(
    arguments: list[str], reasons: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sync", *arguments]) == 2
    errors = capsys.readouterr().err
    assert all(reason in errors for reason in reasons), errors
