"""Trained models for the prediction tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.runs.folder import RunFolder
from tests.conftest import configure


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> RunFolder:
    """A tiny run that has learnt enough to find something in most phantoms."""
    from attnseg.runs.fit import fit

    folder = RunFolder(tmp_path_factory.mktemp("runs") / "detector")
    words = ("data.n_cases=16", "schedule.total_epochs=6", "optim.lr=3e-3", "logger=none")
    assert fit(configure(folder.path, *words)) == 0
    return folder


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> RunFolder:
    """A second, differently initialised run of the same size."""
    from attnseg.runs.fit import fit

    folder = RunFolder(tmp_path_factory.mktemp("runs") / "other")
    words = ("seed=2", "logger=none")
    assert fit(configure(folder.path, *words)) == 0
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where results go."""
    return tmp_path / "out"
