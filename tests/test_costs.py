"""Guards that count instead of timing: arithmetic of the shipped models, files, log calls."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attnseg.commands.compose import compose_checked
from attnseg.config import TrainConfig
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.models import build_model
from attnseg.runs.fit import fit
from tests.conftest import configure

GFLOP_AT_512 = {
    ("model=dual_pathway", "attention=anatomical"): 5.23,
    ("model=dual_pathway", "attention=none"): 2.83,
    ("model=dual_pathway_wide", "attention=anatomical"): 6.91,
}
"""Of one forward pass over one case, two operations a multiplication with addition."""


def gflop(*overrides: str, size: int = 512) -> float:
    config = compose_checked("train", list(overrides), TrainConfig)
    with torch.device("meta"):  # shapes alone: nothing is computed
        model = build_model(config.model, config.attention).eval()
        image = torch.empty(1, 1, size, size)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(image, image)
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize("overrides", GFLOP_AT_512, ids=" ".join)
def test_the_shipped_models_cost_what_they_did(overrides: tuple[str, ...]) -> None:
    assert gflop(*overrides) == pytest.approx(GFLOP_AT_512[overrides], rel=0.02)


def test_the_original_costs_many_times_the_default() -> None:
    assert gflop("model=original", "attention=drr") > 8 * gflop("model=dual_pathway")


class Opened:
    """Files that Python opens while `watching`; an audit hook cannot be taken back."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.active = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.active and event == "open" and isinstance(arguments[0], (str, bytes, Path)):
            self.names[Path(str(arguments[0])).suffix] += 1

    @contextmanager
    def watching(self) -> Iterator[Counter[str]]:
        self.names.clear()
        self.active = True
        try:
            yield self.names
        finally:
            self.active = False


def test_an_epoch_opens_each_sample_once_and_decodes_no_image(tmp_path: Path) -> None:
    data = configure(tmp_path).data
    module = AttnSegDataModule(data, seed=1, progress=False)
    module.prepare_data()
    module.setup("fit")
    loader = module.train_dataloader()
    sum(1 for _ in loader)  # imports, and what is read once a process
    opened = Opened()
    for epoch in (1, 2):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        with opened.watching() as names:
            samples = sum(len(batch["index"]) for batch in loader)
        assert names.pop(".npy") == samples > 0
        assert not names


def test_a_logger_is_called_twice_an_epoch_not_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once with the step's losses where that is asked for, once with the epoch's row."""
    from pytorch_lightning.loggers import TensorBoardLogger

    calls: list[int] = []
    original = TensorBoardLogger.log_metrics

    def counted(self: Any, metrics: Any, step: int | None = None) -> None:
        calls.append(len(metrics))
        original(self, metrics, step)

    monkeypatch.setattr(TensorBoardLogger, "log_metrics", counted)
    words = ("logger=tensorboard", "data.n_cases=12", "schedule.total_epochs=3")
    assert fit(configure(tmp_path, *words, "logger.log_every_n_steps=0")) == 0
    rows, quiet = len((tmp_path / "metrics.csv").read_text().splitlines()) - 1, len(calls)
    assert rows == 3
    assert rows <= quiet <= 2 * rows + 1
