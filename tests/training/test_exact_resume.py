"""A run that was interrupted and resumed is the run that was not: equal to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attnseg.common.errors import INTERRUPTED
from attnseg.runs.folder import RunFolder
from attnseg.training.callbacks.interruption import Interruption
from attnseg.training.fit import fit
from tests.conftest import configure, needs_gpu
from tests.exactness import assert_equal_runs

# 7 training cases: 3 steps an epoch; phases of 1 and 2 epochs; dropout, augmentation and a
# learning rate that moves within an epoch are on, as by default.
COMMON = (
    "data.n_cases=10",
    "data.patch.size=32",
    "data.patch.per_case=2",
    "schedule.total_epochs=3",
    "model.dropout=0.3",
    "callbacks.overlays.every_n_epochs=0",
)
VARIANTS = {
    "plain": (),
    "accumulation": ("trainer.accumulate_grad_batches=2",),
    "ema-dwa": ("callbacks.ema.enabled=true", "schedule=dwa"),
    "gradnorm": ("schedule=gradnorm", "model.encoder.norm=batch"),
    "uncertainty-early-stopping": (
        "schedule=uncertainty",
        "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.last_phase_only=false",
        "callbacks.early_stopping.monitor=val/attention_min",
    ),
    "on-device": ("data.augment.on_device=true", "data.num_workers=1"),
    "deep-supervision": ("model.deep_supervision=2", "callbacks.ema.enabled=true"),
    "workers": ("data.num_workers=2", "trainer.check_val_every_n_epoch=2"),
}
# Mid-epoch, on the first epoch's last batch (the phase boundary), and past it.
STOPS = {"plain": (1, 6, 7), "accumulation": (1, 3, 4), "ema-dwa": (2, 6, 8), "workers": (2, 6, 8)}


def settings(folder: Path, variant: str) -> Any:
    return configure(folder, *COMMON, *VARIANTS[variant])


@contextmanager
def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs are asked to stop once they have made so many steps."""
    original = Interruption._asked

    def ask(self: Interruption, trainer: Any) -> bool:
        return trainer.global_step == step or original(self, trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Interruption, "_asked", ask)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Uninterrupted runs, one a variant, made when first asked for."""
    made: dict[str, RunFolder] = {}

    def get(variant: str) -> RunFolder:
        if variant not in made:
            made[variant] = RunFolder(tmp_path_factory.mktemp("whole") / variant)
            assert fit(settings(made[variant].path, variant)) == 0
        return made[variant]

    return get


CASES = [(v, s) for v in VARIANTS for s in STOPS.get(v, (2, 7))]


@pytest.mark.parametrize(("variant", "stop_at"), CASES)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    variant: str, stop_at: int, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "broken")
    with stopped_at(stop_at, monkeypatch):
        assert fit(settings(folder.path, variant)) == INTERRUPTED
    assert folder.read_status()["state"] == "interrupted"
    assert fit(settings(folder.path, variant)) == 0
    assert_equal_runs(folder, whole(variant))


@needs_gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("variant", ["plain", "ema-dwa", "on-device"])
def test_on_a_gpu_too(
    variant: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = ("trainer.accelerator=gpu", "trainer.deterministic=warn")
    words = (*COMMON, *VARIANTS[variant], *gpu, f"trainer.precision={precision}")
    broken, unbroken = RunFolder(tmp_path / "broken"), RunFolder(tmp_path / "unbroken")
    with stopped_at(2, monkeypatch):
        assert fit(configure(broken.path, *words)) == INTERRUPTED
    assert fit(configure(broken.path, *words)) == 0
    assert fit(configure(unbroken.path, *words)) == 0
    assert_equal_runs(broken, unbroken)


def test_saving_between_steps_changes_nothing_and_workers_neither(
    whole: Any, tmp_path: Path
) -> None:
    """Mid-epoch checkpoints, in accumulation too, and other workers: the same run."""
    folder = RunFolder(tmp_path)
    extra = ("data.num_workers=1", "callbacks.checkpoint.every_n_steps=1")
    assert fit(configure(folder.path, *COMMON, *VARIANTS["accumulation"], *extra)) == 0
    assert_equal_runs(folder, whole("accumulation"))


def test_gradients_that_accumulate_are_never_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop is taken only after an optimizer step: gradients are in no checkpoint."""
    monkeypatch.setattr(Interruption, "_asked", lambda self, trainer: True)
    stopped: list[int] = []
    original = Interruption._stop

    def stop(self: Interruption, trainer: Any, limit: str | None = None) -> None:
        stopped.append(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
        original(self, trainer, limit)

    monkeypatch.setattr(Interruption, "_stop", stop)
    assert fit(settings(tmp_path, "accumulation")) == INTERRUPTED
    assert stopped == [2]
