from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnseg.common.errors import ConfigError, DataError
from attnseg.config import DataConfig
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.data.sources import lidc_drr
from attnseg.imaging import images
from tests.conftest import data_section, with_data

Make = Callable[..., Any]


def _config(root: Path | str = "unused", **options: Any) -> DataConfig:
    return data_section(name="lidc_drr", root=str(root), **{"size": 64, "batch_size": 2, **options})


def _module(source: Any, tmp_path: Path, seed: int = 1, **options: Any) -> AttnSegDataModule:
    config = _config(cache_dir=str(tmp_path / "cache"), **options)
    return AttnSegDataModule(with_data(config, seed), source=source, progress=False)


def test_an_epoch_after_the_first_opens_no_image(
    lidc_folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def counted(path: Path) -> images.Picture:
        opened.append(path)
        return images.read_image(path)

    monkeypatch.setattr(lidc_drr, "read_image", counted)
    config = _config(lidc_folder(6), cache_dir=str(tmp_path / "cache"))
    module = AttnSegDataModule(with_data(config), progress=False)
    module.prepare_data()
    module.setup("fit")
    assert len(opened) == 6
    for epoch in range(2):
        loader = module.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        list(loader)
        list(module.val_dataloader())
    again = AttnSegDataModule(with_data(config), progress=False)
    again.setup("fit")
    list(again.train_dataloader())
    assert len(opened) == 6


def _epoch(module: AttnSegDataModule, epoch: int) -> list[dict[str, Any]]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
    return list(loader)


def test_batches_are_the_same_with_any_number_of_workers(
    memory_source: Make, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"patch": {"size": 32, "per_case": 2}, "oversample_positive": 1.5}
    alone = _epoch(_module(memory_source(10), tmp_path, **options), 3)
    torch.set_num_threads(2)  # the processes have one
    shared = _epoch(_module(memory_source(10), tmp_path, num_workers=2, **options), 3)
    torch.set_num_threads(1)
    assert len(alone) == len(shared) == (8 * 2 + 4) // 2  # 8 training cases, 4 of them positive
    for one, other in zip(alone, shared, strict=True):
        assert one["case_id"] == other["case_id"]
        for name in ("xray", "drr", "mask", "content", "spacing", "index"):
            assert torch.equal(one[name], other[name])


def test_the_seed_moves_order_and_augmentation_but_not_the_split(
    memory_source: Make, tmp_path: Path
) -> None:
    first = _module(memory_source(10), tmp_path, seed=1)
    second = _module(memory_source(10), tmp_path, seed=2)
    assert first.cases("val") == second.cases("val")
    one = [case for batch in _epoch(first, 0) for case in batch["case_id"]]
    other = [case for batch in _epoch(second, 0) for case in batch["case_id"]]
    assert sorted(one) == sorted(other)
    assert one != other


def test_ranks_take_their_share_of_every_batch(
    memory_source: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = memory_source(11)
    whole = _epoch(_module(source, tmp_path, batch_size=4), 0)
    shares = []
    evaluated: list[str] = []
    for rank in (0, 1):
        monkeypatch.setattr(AttnSegDataModule, "_place", lambda self, rank=rank: (rank, 2))
        module = _module(source, tmp_path, batch_size=2)
        shares.append(_epoch(module, 0))
        evaluated += [c for batch in module.eval_dataloader("all") for c in batch["case_id"]]
    assert len(whole) == len(shares[0]) == len(shares[1]) == 2
    for batch, left, right in zip(whole, *shares, strict=True):
        assert batch["case_id"] == left["case_id"] + right["case_id"]
        assert torch.equal(batch["drr"], torch.cat([left["drr"], right["drr"]]))
    assert sorted(evaluated) == sorted(case.case_id for case in source.cases())


def test_the_splits_and_datasets_are_whole_images(memory_source: Make, tmp_path: Path) -> None:
    source = memory_source(10)
    module = _module(source, tmp_path, split={"val_fraction": 0.2, "test_fraction": 0.1})
    module.setup()
    assert [len(module.dataset(name)) for name in ("train", "val", "test")] == [7, 2, 1]
    assert module.dataset("all").cases == source.cases()
    assert module.dataset("train")[0]["drr"].shape == (1, 64, 64)
    (batch,) = list(module.val_dataloader())
    assert batch["case_id"] == [case.case_id for case in module.cases("val")]
    assert len(list(module.test_dataloader())) == 1
    assert len(list(module.eval_dataloader("all", batch_size=10))) == 1


def test_a_share_of_the_training_patients_leaves_the_others_out(
    memory_source: Make, tmp_path: Path
) -> None:
    source = memory_source(10)
    whole, half = (
        _module(source, tmp_path, split={"train_fraction": fraction}) for fraction in (1.0, 0.5)
    )
    assert half.cases("val") == whole.cases("val")
    assert len(half.cases("train")) == 4 < len(whole.cases("train")) == 8
    shown = [case for batch in half.train_dataloader() for case in batch["case_id"]]
    assert set(shown) <= {case.case_id for case in half.cases("train")}
    assert half.record["splits"]["train"]["cases"] == 4


def test_a_data_set_smaller_than_a_batch_gives_one_batch(
    memory_source: Make, tmp_path: Path
) -> None:
    module = _module(memory_source(4), tmp_path, batch_size=16)
    assert [len(batch["case_id"]) for batch in module.train_dataloader()] == [3]


def test_more_processes_than_cases_is_refused(
    memory_source: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AttnSegDataModule, "_place", lambda self: (0, 8))
    with pytest.raises(ConfigError, match="3 training cases cannot be shared by 8 processes"):
        _module(memory_source(4), tmp_path).train_dataloader()


def test_no_validation_split_means_no_loader(memory_source: Make, tmp_path: Path) -> None:
    module = _module(memory_source(4), tmp_path, split={"val_fraction": 0.0})
    assert module.val_dataloader() == []
    assert module.test_dataloader() == []
    assert len(module.cases("train")) == 4


def test_all_cases_can_be_evaluated_where_nothing_can_be_split(
    memory_source: Make, tmp_path: Path
) -> None:
    module = _module(memory_source(1), tmp_path)
    module.setup("test")
    assert len(module.dataset("all")) == 1
    with pytest.raises(DataError, match="training split is empty"):
        module.setup("fit")


def test_a_broken_case_stops_setup_with_all_problems(memory_source: Make, tmp_path: Path) -> None:
    source = memory_source(5)
    source.broken = {"case1", "case4"}
    with pytest.raises(DataError) as caught:
        _module(source, tmp_path).setup("fit")
    assert caught.value.problems == ["case1: is broken", "case4: is broken"]


def test_the_record_is_plain_and_loads_with_weights_only(
    memory_source: Make, tmp_path: Path
) -> None:
    module = _module(memory_source(10), tmp_path)
    record = module.record
    torch.save(record, tmp_path / "record.pt")
    assert torch.load(tmp_path / "record.pt", weights_only=True) == record
    assert record["source"] == {"name": "memory"}
    assert record["splits"]["train"]["cases"] == record["splits"]["train"]["patients"] == 8
    positives = record["splits"]["train"]["positives"] + record["splits"]["val"]["positives"]
    assert positives == 5
    assert len(module.train_patients) == 8
    assert not any(f"'{patient}'" in repr(record) for patient in module.train_patients)
    assert record["split"]["kind"] == "random"


def _named(source: Any, patients: dict[str, str]) -> Any:
    cases = [
        replace(case, patient_id=patients.get(case.case_id, case.patient_id))
        for case in source.cases()
    ]
    source.cases = lambda: cases
    return source


def test_patients_that_look_the_same_do_not_part(memory_source: Make, tmp_path: Path) -> None:
    for wrong in ("PATIENT0", "patient00", "patient0\u200b", "p\uff41tient0"):
        for split in ("train", "val"):
            source = _named(memory_source(10), {"case1": wrong})
            cases = [
                replace(case, split=split if case.case_id == "case1" else "train")
                for case in source.cases()
            ]
            source.cases = lambda cases=cases: cases
            module = _module(source, tmp_path, split={"kind": "fixed"})
            if split == "train":
                (note,) = module.refuse_similar_patients()
                assert "differ by case" in note
            else:
                with pytest.raises(DataError, match=r"'patient0' \(train\)"):
                    module.refuse_similar_patients()


def test_a_picture_of_two_patients_is_refused_and_of_one_is_not(
    memory_source: Make, tmp_path: Path
) -> None:
    for dtype, gain in ((np.uint8, 1), (np.uint16, 257), (np.float32, 0.01)):
        source = memory_source(10)
        load = source.load

        def copied(case: Any, load: Any = load, dtype: Any = dtype, gain: Any = gain) -> Any:
            images = load(case)
            if case.case_id != "case7":
                return images
            other = load(replace(case, case_id="case2"))
            return replace(images, xray=(other.xray * dtype(gain)).astype(dtype))

        source.load, source.version = copied, str(dtype)
        module = _module(source, tmp_path, size=32)
        module.setup("fit")
        with pytest.raises(DataError, match=r"case2 \(patient patient2.*case7.*same X-ray"):
            module.refuse_shared_pictures()
        same = {"case7": "patient2"}
        _module(_named(source, same), tmp_path, size=32).refuse_shared_pictures()


@pytest.mark.shared_data
def test_the_real_set_end_to_end(lidc_root: Path, tmp_path: Path) -> None:
    config = _config(
        lidc_root, size=128, cache_dir=str(tmp_path), patch={"size": 64}, oversample_positive=2.0
    )
    module = AttnSegDataModule(with_data(config), progress=False)
    module.all_cases = module.all_cases[:24]
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert batch["drr"].shape == (2, 1, 64, 64)
    assert (module.record["splits"]["train"]["cases"], len(module.cases("val"))) == (19, 5)
    for sample in module.dataset("all"):  # type: ignore[attr-defined]
        spacing = sample["spacing"].tolist()
        assert 2.0 < spacing[0] < 4.0
        assert spacing[0] == pytest.approx(spacing[1], rel=0.01)
        top, left, height, width = sample["content"].tolist()
        assert max(height, width) == 128
        content = sample["drr"][:, top : top + height, left : left + width]
        assert float(content.mean()) == pytest.approx(0.0, abs=1e-4)
