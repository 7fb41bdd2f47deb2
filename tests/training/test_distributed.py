"""Two gloo processes: the run of one process, divided."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from attnseg.common.errors import ConfigError, DataError
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from attnseg.training.fit import fit
from attnseg.training.launch import launch, processes_wanted
from tests.conftest import TINY, with_data

# 9 cases: 6 train, 3 validate: 2 on one rank, 1 on the other; dropout and augmentation are on.
UNEVEN = ("data.n_cases=9", "data.split.val_fraction=0.34", "data.patch.size=32")


def configure(folder: Path, *overrides: str) -> TrainConfig:
    words = [*TINY, *UNEVEN, f"run.dir={folder}", "model.dropout=0.3"]
    return compose_checked("train", [*words, *overrides], TrainConfig)


def float_or_zero(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


GRADNORM = ("schedule=gradnorm", "schedule.total_epochs=3", "loss.attention.dice=1")
ON_DEVICE = ("data.augment.on_device=true", "schedule.total_epochs=3", "model.deep_supervision=2")
FROZEN = ("schedule=three_phase", "schedule.total_epochs=3", "loss.segmentation.tversky=1")
FROZEN += ("loss.segmentation.blob=1", "loss.segmentation.boundary=1", "model.deep_supervision=1")


@pytest.mark.parametrize("variant", [GRADNORM, FROZEN, ON_DEVICE])
def test_two_processes_train_and_measure_like_one(variant: tuple[str, ...], tmp_path: Path) -> None:
    """Same global batch, same cases, same dropout: losses and metrics agree but for rounding."""
    one = configure(tmp_path / "one", *variant, "data.batch_size=4")
    two = configure(tmp_path / "two", *variant, "data.batch_size=2", "trainer=ddp_cpu", *TINY[-2:])
    assert processes_wanted(two) == 2
    assert launch(one) == 0
    assert launch(two) == 0
    rows = [read_ledger(RunFolder(tmp_path / name).ledger) for name in ("one", "two")]
    assert len(rows[0]) == len(rows[1]) == 3
    losses = 0
    for first, second in zip(*rows, strict=True):
        assert first["val/n_cases"] == second["val/n_cases"] == "3.0"
        # AdamW's first steps are all but signs of gradients, and those near 0 are rounding.
        tolerance, of_maps = (1e-6, 1e-4) if first["epoch"] == "1" else (2e-4, 3e-3)
        for column in first:
            expected, got = float_or_zero(first[column]), float_or_zero(second[column])
            if column.startswith(("train/loss", "lr/")):
                assert math.isclose(expected, got, rel_tol=tolerance), column
                losses += 1
            elif column.endswith(("_corr", "soft_iou", "attention_std")):
                assert math.isclose(expected, got, abs_tol=of_maps), column
    assert losses > 20


@pytest.mark.parametrize("oversample", ["1.0", "2.5"])
def test_two_processes_see_the_samples_of_one(oversample: str, tmp_path: Path) -> None:
    """Every step's global batch: the same cases in the same order, augmented alike, to the bit."""
    config = configure(tmp_path, f"data.oversample_positive={oversample}", "data.batch_size=2")
    whole = _batches(config, 0, 1, batch=4)
    parts = [_batches(config, rank, 2, batch=2) for rank in (0, 1)]
    assert len(whole) == len(parts[0]) == len(parts[1]) >= 3
    for batch, first, second in zip(whole, *parts, strict=True):
        assert batch["case_id"] == first["case_id"] + second["case_id"]
        for name in ("xray", "drr", "mask"):
            assert torch.equal(batch[name], torch.cat([first[name], second[name]]))


def _batches(config: TrainConfig, rank: int, world_size: int, batch: int) -> list[dict[str, Any]]:
    """The training batches of one rank over three epochs."""
    changed = config.data.model_copy(update={"batch_size": batch})
    data = AttnSegDataModule(with_data(changed, config.seed))
    data._place = lambda: (rank, world_size)  # type: ignore[method-assign]
    data.setup("fit")
    loader, found = data.train_dataloader(), []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        found += list(loader)
    return found


def test_several_nodes_without_a_group_is_refused_with_the_command(tmp_path: Path) -> None:
    config = configure(tmp_path, "trainer=ddp_cpu", "trainer.num_nodes=2")
    with pytest.raises(ConfigError, match="torchrun --nnodes 2 --nproc-per-node 2"):
        launch(config)


def test_a_users_mistake_in_a_group_is_one_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, "trainer=ddp_cpu", "data.negative_fraction=1.0")
    assert launch(config) == 2
    errors = capfd.readouterr().err
    assert errors.count("nothing can be learned") == 1
    assert "Traceback" not in errors


@pytest.mark.parametrize("refused", [False, True])
def test_a_run_leaves_its_group_however_it_ends(refused: bool, tmp_path: Path) -> None:
    """Else Gloo's threads may abort the interpreter at its end, after a run that has finished."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    if refused:
        with pytest.raises(DataError, match="nothing can be learned"):
            fit(configure(tmp_path / "run", "data.negative_fraction=1.0"))
    else:
        assert fit(configure(tmp_path / "run", "trainer.max_epochs=1")) == 0
    assert not torch.distributed.is_initialized()
