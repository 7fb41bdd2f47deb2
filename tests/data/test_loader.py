"""Resuming to the batch: with Lightning as it is, and with 0 and 2 workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from attnseg.common.errors import CheckpointError
from attnseg.data.loader import ResumableLoader, eval_loader
from attnseg.data.sampling import EpochSampler, EvalSampler, SampleKey

N_CASES, BATCH, EPOCHS = 11, 2, 3
STEPS = N_CASES // BATCH


class Keys(Dataset[dict[str, Any]]):
    """A sample is its own key."""

    def __init__(self) -> None:
        self.asked: list[SampleKey] = []

    def __len__(self) -> int:
        return N_CASES

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        self.asked.append(key)
        return {"key": torch.tensor(key), "x": torch.full((1,), float(key[1]))}


def _loader(workers: int = 0, batch: int = BATCH) -> ResumableLoader:
    sampler = EpochSampler([True] * N_CASES, seed=7, batch_size=batch)
    return ResumableLoader(Keys(), sampler, batch_size=batch, num_workers=workers)


class Recorder(pl.LightningModule):
    """Learns a number, and remembers which samples each step saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[list[list[int]]] = []

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        self.seen.append(batch["key"].tolist())
        return self.layer(batch["x"]).square().mean()  # type: ignore[no-any-return]

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-4)


class SaveAt(pl.Callback):
    """Writes a checkpoint after some steps, and at the end of some epochs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        trainer.save_checkpoint(self.folder / f"step{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        trainer.save_checkpoint(self.folder / f"epoch{trainer.current_epoch}.ckpt")


def _fit(
    loader: ResumableLoader,
    *,
    folder: Path | None = None,
    resume: Path | None = None,
    **options: Any,
) -> Recorder:
    module = Recorder()
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[SaveAt(folder)] if folder is not None else [],
        **options,
    )
    validation = eval_loader(Keys(), EvalSampler(3), batch_size=2)
    trainer.fit(module, loader, validation, ckpt_path=resume, weights_only=True)
    return module


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorder, Path]:
    """An uninterrupted run and its checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    return _fit(_loader(), folder=folder), folder


def test_each_epoch_has_an_order_of_its_own(whole: tuple[Recorder, Path]) -> None:
    seen = whole[0].seen
    assert len(seen) == EPOCHS * STEPS
    for epoch in range(EPOCHS):
        keys = [tuple(key) for batch in seen[epoch * STEPS : (epoch + 1) * STEPS] for key in batch]
        assert {key[0] for key in keys} == {epoch}
        sampler = EpochSampler([True] * N_CASES, seed=7, batch_size=BATCH)
        sampler.set_epoch(epoch)
        assert keys == list(sampler)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "checkpoint",
    ["step2", "step5", "step7", "step10", "epoch0", "epoch1"],  # 5 and 10 end an epoch
)
def test_a_resumed_run_sees_what_the_whole_one_saw(
    whole: tuple[Recorder, Path], checkpoint: str, workers: int
) -> None:
    module, folder = whole
    loader = _loader(workers)
    resumed = _fit(loader, resume=folder / f"{checkpoint}.ckpt")
    number = int(checkpoint[4 if checkpoint.startswith("step") else 5 :])
    done = number if checkpoint.startswith("step") else (number + 1) * STEPS
    assert resumed.seen == module.seen[done:]
    for one, other in zip(resumed.parameters(), module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_workers_change_nothing(whole: tuple[Recorder, Path]) -> None:
    assert _fit(_loader(2)).seen == whole[0].seen


def test_skipped_samples_are_not_made(whole: tuple[Recorder, Path]) -> None:
    loader = _loader()
    resumed = _fit(loader, resume=whole[1] / "step12.ckpt")
    assert isinstance(loader.dataset, Keys)
    assert len(resumed.seen) == 3
    assert len(loader.dataset.asked) == 3 * BATCH


def test_an_epoch_cut_short_does_not_move_the_next_one(tmp_path: Path) -> None:
    cut = _fit(_loader(), folder=tmp_path, limit_train_batches=3)
    for done in (2, 3, 4):  # 3 ends an epoch of 3 of the 5 batches
        resumed = _fit(_loader(), resume=tmp_path / f"step{done}.ckpt", limit_train_batches=3)
        assert resumed.seen == cut.seen[done:]


def test_nothing_starts_before_the_first_batch_is_asked_for() -> None:
    loader = _loader()
    batches = iter(loader)
    loader.sampler.set_epoch(4)  # type: ignore[union-attr]
    assert isinstance(loader.dataset, Keys)
    assert loader.dataset.asked == []
    assert next(batches)["key"][:, 0].tolist() == [4, 4]


def test_the_state_is_plain_and_counts_what_was_handed_out() -> None:
    loader = _loader()
    assert loader.state_dict() == {"epoch": 0, "batches": 0, "global_batch_size": 2}
    batches = iter(loader)
    next(batches)
    next(batches)
    assert loader.state_dict() == {"epoch": 0, "batches": 2, "global_batch_size": 2}
    rest = [batch["key"].tolist() for batch in batches]
    assert loader.state_dict()["batches"] == 0  # modulo the length
    restored = _loader()
    restored.load_state_dict({"epoch": 0, "batches": 2, "global_batch_size": 2})
    assert restored.state_dict()["batches"] == 2
    assert [batch["key"].tolist() for batch in restored] == rest
    assert len(list(restored)) == STEPS  # once


def test_a_state_of_another_epoch_is_dropped() -> None:
    loader = _loader()
    loader.load_state_dict({"epoch": 1, "batches": 2, "global_batch_size": 2})
    loader.sampler.set_epoch(2)  # type: ignore[union-attr]
    assert len(list(loader)) == STEPS


def test_another_global_batch_size_mid_epoch_is_refused() -> None:
    loader = _loader(batch=3)
    with pytest.raises(CheckpointError, match="global batch size of 2, but now it is 3"):
        loader.load_state_dict({"epoch": 0, "batches": 2, "global_batch_size": 2})
    loader.load_state_dict({"epoch": 0, "batches": 0, "global_batch_size": 2})


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_global_random_state_alone(workers: int) -> None:
    evaluation: DataLoader[Any] = eval_loader(
        Keys(), EvalSampler(3), batch_size=2, num_workers=workers
    )
    before = torch.get_rng_state()
    list(_loader(workers))
    list(evaluation)
    assert torch.equal(torch.get_rng_state(), before)


def test_persistent_workers_start_each_epoch_afresh() -> None:
    loader = _loader(2)
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        batches = iter(loader)
        assert next(batches)["key"][0, 0] == epoch  # and the rest is abandoned
