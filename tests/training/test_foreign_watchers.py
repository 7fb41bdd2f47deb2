"""Callbacks and loggers of Lightning and of anybody."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnseg.cli import main
from attnseg.common.errors import INTERRUPTED, ConfigError
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.runs.checkpoints import read_checkpoint
from attnseg.runs.code import code_of
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_ids
from attnseg.runs.ledger import read_ledger
from attnseg.runs.recorded import frozen, recorded, thawed
from attnseg.training.fit import fit
from tests.conftest import TINY, configure
from tests.exactness import assert_equal_runs
from tests.foreign import package
from tests.training.test_exact_resume import stopped_at

PARTS = '''
from pytorch_lightning import Callback
from pytorch_lightning.loggers import Logger


class Count(Callback):
    """Counts steps, and notes what it finds where callbacks look for metrics."""

    def __init__(self, by: int = 1):
        self.by, self.steps, self.seen = by, 0, {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps += self.by

    def on_validation_end(self, trainer, pl_module):
        self.seen["val"] = float(trainer.callback_metrics["val/dice_positive"])

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen["train"] = float(trainer.callback_metrics["train/loss/total"])

    def state_dict(self):
        return {"steps": self.steps, "seen": self.seen}

    def load_state_dict(self, state):
        self.steps, self.seen = state["steps"], state["seen"]


class Hoarder(Callback):
    def state_dict(self):
        return {"me": Hoarder}


class Notebook(Logger):
    pages = []

    def __init__(self, api_key: str, fail: str = ""):
        super().__init__()
        self.fail = fail

    name = "notebook"
    version = 0

    @property
    def experiment(self):
        if self.fail == "experiment":
            raise ConnectionError("no paper")
        return self.pages

    def log_metrics(self, metrics, step=None):
        if self.fail == "metrics":
            raise OSError("no ink")
        self.experiment.append((step, dict(metrics)))

    def log_hyperparams(self, params):
        self.experiment.append(("told", params))

    def finalize(self, status):
        self.experiment.append(("end", status))
        raise OSError("the cover is gone")


def no_callback():
    return object()


class Broken(Callback):
    def __init__(self, a: int = 1):
        self.a = a / 0
'''
LIGHTNINGS = "pytorch_lightning.callbacks"
CALLBACKS = (
    "callbacks.count._target_=mylab.parts.Count",
    "callbacks.count.by=2",
    f"callbacks.rates._target_={LIGHTNINGS}.LearningRateMonitor",
    f"callbacks.keep._target_={LIGHTNINGS}.ModelCheckpoint",
    "callbacks.keep.monitor=val/dice_positive",
    "callbacks.keep.mode=max",
    "callbacks.keep.save_last=true",
    f"callbacks.patience._target_={LIGHTNINGS}.EarlyStopping",
    "callbacks.patience.monitor=train/loss/total",
)
KEY = "a-secret-of-mine"
LOGGERS = (
    "logger=csv",
    "logger.log_every_n_steps=1",
    "logger.paper._target_=mylab.parts.Notebook",
    f"logger.paper.api_key={KEY}",
)


@pytest.fixture(scope="module")
def mylab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with package(tmp_path_factory.mktemp("lab"), PARTS) as folder:
        yield folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, mylab: Path) -> tuple[RunFolder, list[Any]]:
    """A run with all of them, and what the notebook got."""
    from mylab.parts import Notebook  # type: ignore[import-not-found]

    folder = RunFolder(tmp_path_factory.mktemp("runs") / "whole")
    assert fit(configure(folder.path, *CALLBACKS, *LOGGERS)) == 0
    return folder, list(Notebook.pages)


def test_callbacks_of_anybody_are_resumed_to_the_bit(
    whole: tuple[RunFolder, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is the same one, as ModelCheckpoint's state holds its path."""
    folder, _ = whole
    row = read_ledger(folder.ledger)[-1]
    state = read_checkpoint(folder.last)["callbacks"]["Count"]
    assert state["steps"] == 2 * 4
    assert state["seen"]["val"] == pytest.approx(float(row["val/dice_positive"]))
    assert state["seen"]["train"] == pytest.approx(float(row["train/loss/total"]))
    others = {path.name for path in (folder.path / "callbacks" / "keep").glob("*.ckpt")}
    assert "last.ckpt" in others and len(others) == 2
    assert {p.name for p in folder.last.parent.glob("*.ckpt")} == {"last.ckpt", "best.ckpt"}
    words = (*CALLBACKS, *LOGGERS)
    kept = RunFolder(folder.path.rename(tmp_path / "kept"))
    with stopped_at(3, monkeypatch):
        assert fit(configure(folder.path, *words)) == INTERRUPTED
    assert fit(configure(folder.path, *words)) == 0
    assert_equal_runs(kept, folder)


def test_loggers_of_anybody_get_what_ours_get(whole: tuple[RunFolder, list[Any]]) -> None:
    folder, pages = whole
    told = next(page for what, page in pages if what == "told")
    assert told["data"]["name"] == "phantom" and told["identity"]
    assert KEY not in str(told) and told["logger"]["paper"]["api_key"] == "***"
    epochs = {int(m["epoch"]): (step, m) for step, m in pages if "epoch" in m}
    for row in read_ledger(folder.ledger):
        step, metrics = epochs[int(row["epoch"])]
        assert step == int(row["step"])
        assert metrics["train/loss/total"] == pytest.approx(float(row["train/loss/total"]))
    assert sum("step/loss/total" in page for _, page in pages) == 4
    assert pages[-1] == ("end", "success")
    rows = []
    for file in folder.path.glob("**/version_*/metrics.csv"):  # Lightning's, one a start
        with file.open() as lines:
            rows += list(csv.DictReader(lines))
    assert {row.get("val/dice_positive") for row in rows} - {"", None}
    assert any(name.startswith("lr-AdamW/backbone") for row in rows for name in row)
    written = folder.config.read_text() + folder.status.read_text()
    assert KEY not in written


@pytest.mark.parametrize("fail", ["metrics", "experiment"])
def test_a_logger_that_fails_warns_once_and_the_run_goes_on(
    fail: str, mylab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*LOGGERS[2:], f"logger.paper.fail={fail}", "trainer.max_epochs=1")
    assert fit(configure(tmp_path, *words)) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "logger.paper" in line]
    reason = {"metrics": "no ink", "experiment": "no paper"}[fail]
    assert len(warned) == 1 and f"warning: logger.paper: {reason}; training goes on" in warned[0]


def test_other_processes_get_the_key_by_their_environment(
    mylab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setattr(os, "environ", dict(os.environ))
    config = compose_checked("train", list(LOGGERS), TrainConfig)
    assert KEY not in str(frozen(config)) and KEY not in str(recorded(config))
    assert thawed(frozen(config)).logger.others["paper"].options["api_key"] == KEY


def test_callbacks_define_a_run_and_loggers_do_not(mylab: Path) -> None:
    def of(*words: str) -> TrainConfig:
        return compose_checked("train", list(words), TrainConfig)

    assert run_ids(of(*LOGGERS)) == run_ids(of())
    assert run_ids(of(*CALLBACKS[:1])) != run_ids(of())
    assert code_of(of(*LOGGERS))["digest"] == code_of(of())["digest"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("callbacks.early_stoping.patience=3",),
         "callbacks.early_stoping: no such key; did you mean 'callbacks.early_stopping'?"),
        (("logger.tensorbord=true",), "did you mean 'logger.tensorboard'?"),
        (("callbacks.count._target_=mylab.parts.Count", "callbacks.count.bye=1"),
         "callbacks.count.bye: no such key; did you mean 'callbacks.count.by'?"),
        (("callbacks.count._target_=mylab.parts.Counts",), "did you mean mylab.parts.Count?"),
        (("logger.paper._target_=mylab.parts.Notebook",), "logger.paper.api_key: needed"),
    ],
)  # fmt: skip
def test_mistakes_are_told(mylab: Path, words: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_checked("train", list(words), TrainConfig)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("callbacks.a._target_=mylab.parts.no_callback",), "callbacks.a: mylab.parts.no_callback"),
        (("callbacks.a._target_=mylab.parts.Broken",), "Broken fails: ZeroDivisionError: "),
        (("callbacks.a._target_=mylab.parts.Count", "callbacks.b._target_=mylab.parts.Count"),
         "more than one stateful callback of type `Count`"),
        (("callbacks.a._target_=mylab.parts.Hoarder", "trainer.max_epochs=1"),
         "holds mylab.parts.Hoarder, so it cannot be read again"),
    ],
)  # fmt: skip
def test_what_only_the_class_tells_is_told_without_a_traceback(
    mylab: Path,
    words: tuple[str, ...],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", *TINY, *words, f"run.dir={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err
    assert reason in told and "Traceback" not in told
