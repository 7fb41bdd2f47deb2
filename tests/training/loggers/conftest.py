"""A W&B server of one's own, and a W&B client that remembers nothing of the test before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.loggers.stub import KEY, Stub

QUICK = ("logger=wandb", "logger.init_timeout_s=3", "logger.finish_timeout_s=10")


@pytest.fixture
def _fresh_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """W&B reads its environment once a process, and the machine's own key is none of ours."""
    import wandb

    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "no-config"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb-data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))
    yield
    wandb.teardown()


@pytest.fixture
def no_key(_fresh_client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key; and nobody to ask for one: a request would be refused."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


@pytest.fixture
def stub(_fresh_client: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A server that answers, and the key to it."""
    server = Stub()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    yield server
    server.stop()
