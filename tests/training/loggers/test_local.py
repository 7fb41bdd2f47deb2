"""TensorBoard and MLflow: what they wrote, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnseg.common.errors import ConfigError
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_identity
from attnseg.runs.ledger import read_ledger
from attnseg.training import loggers
from attnseg.training.fit import fit
from attnseg.training.identified import identified
from attnseg.training.loggers import build_loggers
from tests.conftest import configure
from tests.training.loggers.test_offline import interrupt_at


def test_both_at_once_have_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    folder = RunFolder(tmp_path / "run")
    both = ("logger=[tensorboard,mlflow]", f"run.root={tmp_path}", "logger.log_every_n_steps=1")
    config = configure(folder.path, *both, "logger.group=mine")
    interrupt_at(3, monkeypatch, config)
    assert fit(config) == 0
    losses = [float(row["val/loss/total"]) for row in read_ledger(folder.ledger)]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.path / "tensorboard")).Reload()
    assert [e.value for e in events.Scalars("val/loss/total")] == pytest.approx(losses)
    assert [e.step for e in events.Scalars("step/loss/total")] == [1, 2, 3, 4]
    assert len(events.Images("overlays")) == 2

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("attnseg")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["attnseg.id"] == run_identity(identified(config))
    assert run.data.tags["attnseg.group"] == "mine"
    assert run.data.params["attention/name"] == "anatomical"
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "val/loss/total")
    assert [point.value for point in history] == losses


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_names_the_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loggers.importlib.util.find_spec
    monkeypatch.setattr(
        loggers.importlib.util, "find_spec", lambda p: None if p == name else real(p)
    )
    config = configure(tmp_path, f"logger={name}")
    with pytest.raises(ConfigError, match=rf"logger={name} needs {name}.*'attnseg\[{name}\]'"):
        build_loggers(config, RunFolder(tmp_path))


def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    config = configure(tmp_path, "logger=mlflow", "logger.tracking_uri=nonsense://x")
    with pytest.raises(ConfigError, match=r"logger\.tracking_uri=nonsense://x"):
        build_loggers(config, RunFolder(tmp_path))


def test_a_logger_that_fails_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    from pytorch_lightning.loggers import TensorBoardLogger

    def full(self: Any, *arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoardLogger, "log_metrics", full)
    assert fit(configure(tmp_path, "logger=tensorboard", "schedule=none")) == 0
    assert len(read_ledger(RunFolder(tmp_path).ledger)) == 2
    assert capsys.readouterr().err.count("warning: TensorBoard: [Errno 28]") == 1
