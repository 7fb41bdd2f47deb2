"""Whatever happens to W&B, the training ends as it would have, and its ledger is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from attnseg.training.fit import fit
from attnseg.training.loggers.marks import is_sent
from tests.conftest import configure
from tests.training.loggers.stub import Stub
from tests.training.loggers.wandb_file import offline_runs

SHORT = ("logger=wandb", "logger.init_timeout_s=1", "logger.finish_timeout_s=1", "schedule=none")


def assert_trained(folder: Path) -> None:
    run = RunFolder(folder)
    assert run.read_status()["state"] == "finished"
    assert [row["epoch"] for row in read_ledger(run.ledger)] == ["1", "2"]
    assert not is_sent(run)


@pytest.mark.parametrize("mode", ["error", "hang", "gone"])
def test_no_server_at_the_start_means_offline(
    mode: str, stub: Stub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stub.mode = mode
    if mode == "gone":
        stub.stop()
    assert fit(configure(tmp_path, *SHORT)) == 0
    assert_trained(tmp_path)
    assert not stub.runs
    (piece,) = offline_runs(tmp_path)
    assert piece.column("epoch") == [1, 2]
    captured = capfd.readouterr()
    assert captured.out.count("W&B: offline (http://127.0.0.1") == 1
    assert "W&B" not in captured.err


@pytest.mark.parametrize("mode", ["error", "hang", "gone"])
def test_a_server_that_goes_away_costs_one_warning(
    mode: str, stub: Stub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def go_away(trainer: Any) -> None:
        stub.mode = mode
        if mode == "gone":
            stub.stop()

    with pytest.MonkeyPatch.context() as patch:
        from attnseg.training.callbacks.ledger import LedgerWriter

        original = LedgerWriter.on_train_epoch_start

        def strike(self: LedgerWriter, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                go_away(trainer)
            original(self, trainer, pl_module)

        patch.setattr(LedgerWriter, "on_train_epoch_start", strike)
        assert fit(configure(tmp_path, *SHORT)) == 0
    assert_trained(tmp_path)
    errors = capfd.readouterr().err
    assert errors.count("warning: W&B: ") == 1
    assert f"`attnseg sync {tmp_path}` sends it later" in errors
    assert "Traceback" not in errors


def test_without_a_key_nobody_is_asked(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a prompt"))
    for wanted in ("null", "true", "false"):
        config = configure(tmp_path / wanted, *SHORT, f"logger.offline={wanted}")
        assert fit(config) == 0
        assert len(offline_runs(tmp_path / wanted)) == 1
    assert stub.requests == []


def test_a_key_that_is_refused_means_offline(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.mode = "refuse"
    assert fit(configure(tmp_path, *SHORT)) == 0
    assert_trained(tmp_path)
    assert not stub.runs


@pytest.mark.usefixtures("no_key")
def test_a_full_disk_of_its_own_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from wandb.sdk.wandb_run import Run

    def full(self: Run, *arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Run, "log", full)
    assert fit(configure(tmp_path, *SHORT)) == 0
    assert_trained(tmp_path)
    errors = capfd.readouterr().err
    assert errors.count("warning: W&B: [Errno 28] No space left on device") == 1


@pytest.mark.usefixtures("no_key")
def test_a_folder_that_cannot_be_made_costs_one_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wandb").write_text("in the way")
    assert fit(configure(tmp_path, *SHORT)) == 0
    assert_trained(tmp_path)
    assert capfd.readouterr().err.count("warning: W&B: ") == 1
