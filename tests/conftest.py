"""What many tests need: a small configuration, and where the shared data is."""

from __future__ import annotations

import functools
import locale
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from attnseg.config import DataConfig, TrainConfig
from attnseg.config.component import component
from attnseg.config.compose import compose_checked
from attnseg.runs.folder import RunFolder

TINY = (
    "data.n_cases=6",
    "data.size=64",
    "data.batch_size=2",
    "data.split.val_fraction=0.34",
    "model.encoder.channels=[8,8,8,8,8]",
    "model.decoder_channels=8",
    "attention.hidden_channels=8",
    "schedule.total_epochs=2",
    "callbacks.overlays.n_cases=1",
    "trainer.accelerator=cpu",
    "trainer.num_threads=1",
    "trainer.progress_bar=false",
)
"""Overrides that make a run of a second or two."""

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def tiny(*overrides: str) -> list[str]:
    """`TINY` without the keys that a model or attention among the overrides has not."""
    chosen = dict(word.split("=", 1) for word in overrides if "=" in word)
    lacking = ("attention.",) if "none" in chosen.get("attention", "").split(",") else ()
    lacking += ("model.encoder.",) if "model" in chosen else ()
    return [word for word in TINY if not word.startswith(lacking)] if lacking else list(TINY)


def configure(folder: Path, *overrides: str) -> TrainConfig:
    """A tiny run's configuration, in a folder of its own."""
    words = [*tiny(*overrides), f"run.dir={folder}", *overrides]
    return compose_checked("train", words, TrainConfig)


def data_section(**given: Any) -> DataConfig:
    """The section data of a configuration that says no more than this."""
    return component("data", given)


def with_data(data: DataConfig, seed: int = 1) -> TrainConfig:
    """The default training configuration, of these data."""
    return _default().model_copy(update={"data": data, "seed": seed})


@functools.cache
def _default() -> TrainConfig:
    return compose_checked("train", [], TrainConfig)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> RunFolder:
    """One tiny finished run, shared by the tests that only look at it."""
    from attnseg.training.fit import fit

    folder = RunFolder(tmp_path_factory.mktemp("runs") / "finished")
    assert fit(configure(folder.path)) == 0
    return folder


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> RunFolder:
    """A tiny run that has learnt enough to find something in most phantoms."""
    from attnseg.training.fit import fit

    folder = RunFolder(tmp_path_factory.mktemp("runs") / "detector")
    words = ("data.n_cases=16", "schedule.total_epochs=6", "optim.lr=3e-3", "logger=none")
    assert fit(configure(folder.path, *words)) == 0
    return folder


for _number, _handler in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    if signal.getsignal(_number) is signal.SIG_IGN:  # of nohup or a shell's background
        signal.signal(_number, _handler)

_LOCALE = locale.setlocale(locale.LC_ALL)


def restore_locale() -> None:
    """ITK's DICOM writer, which makes fixtures, leaves the process in the C locale: ASCII."""
    locale.setlocale(locale.LC_ALL, _LOCALE)


@pytest.fixture(autouse=True)
def _own_locale() -> None:
    restore_locale()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache or keys, and none talks to W&B's servers."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    patch.setenv("ATTNSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("WANDB_MODE", "offline")
    patch.delenv("WANDB_API_KEY", raising=False)


@pytest.fixture
def train_config() -> TrainConfig:
    """The default training configuration."""
    return compose_checked("train", [], TrainConfig)


@pytest.fixture(scope="session")
def lidc_root() -> Path:
    """The real DRRs, where this checkout has them."""
    root = Path(__file__).resolve().parents[2] / "shared" / "data" / "lidc_drr" / "LIDC_LDRI"
    if not root.is_dir():
        pytest.skip(f"the shared LIDC-IDRI DRRs are not here ({root})")
    return root
