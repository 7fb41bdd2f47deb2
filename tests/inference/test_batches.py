"""As many windows at once as memory allows: measured, and halved where it runs out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.inference import batches
from attnseg.inference.batches import MOST, BatchRunner
from attnseg.inference.predictor import Predictor
from attnseg.nn.output import DualPathwayOutput
from tests.inference.test_predictor import Pointwise, small


class Hungry(Pointwise):
    """Runs out of memory above so many images; remembers the batches that went through."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.seen: list[int] = []

    def forward(self, xray: Tensor, drr: Tensor) -> DualPathwayOutput:
        if len(xray) > self.limit:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        self.seen.append(len(xray))
        return super().forward(xray, drr)


def windows(n: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 32, 32, generator=generator) for _ in range(n)]


def test_a_batch_that_is_too_large_is_halved_and_nothing_is_lost() -> None:
    model = Hungry(2)
    runner = BatchRunner(Predictor([model]), "cpu", batch_size=8)
    given = windows(7)
    maps = runner(given, [str(i) for i in range(7)])
    assert runner.batch_size == 2 and model.seen == [2, 2, 2, 1]
    for window, made in zip(given, maps, strict=True):
        torch.testing.assert_close(made[0], window[0].sigmoid())


def test_one_image_that_is_too_large_is_told() -> None:
    runner = BatchRunner(Predictor([Hungry(0)]), "cpu")
    with pytest.raises(ConfigError, match="not even one image"):
        runner(windows(1), ["a"])


def test_other_failures_are_not_taken_for_memory() -> None:
    class Broken(Pointwise):
        def forward(self, xray: Tensor, drr: Tensor) -> DualPathwayOutput:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        BatchRunner(Predictor([Broken()]), "cpu", batch_size=4)(windows(4), list("abcd"))


def test_the_batch_follows_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    for free in (2**60, 1, 3 * 2**20):
        monkeypatch.setattr(batches, "free_memory", lambda device, free=free: free)
        runner = BatchRunner(Predictor([small()]), "cpu")
        runner(windows(1), ["a"])
        sizes.append(runner.batch_size)
    assert sizes[0] == MOST and sizes[1] == 1
    assert 1 < sizes[2] < MOST


def test_maps_that_are_not_finite_are_the_checkpoints_fault() -> None:
    runner = BatchRunner(Predictor([Pointwise(float("nan"))]), "cpu", batch_size=2)
    with pytest.raises(CheckpointError, match="case a, b"):
        runner([torch.zeros(2, 32, 32), torch.ones(2, 32, 32)], ["a", "b"])
