"""Guards that count instead of timing: arithmetic of the shipped models, files, log calls."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from attnseg.build import build_model
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.data import dataset as dataset_module
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.metrics.collection import ValidationMetrics
from attnseg.training.fit import fit
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
    module = AttnSegDataModule(configure(tmp_path), progress=False)
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


def test_a_sample_is_made_in_the_memory_it_is_handed_out_in(tmp_path: Path) -> None:
    """Whole and not augmented: no copy of an image beside its tensor, and no random number."""
    words = ("data.augment.enabled=false", "data.n_cases=4")
    module = AttnSegDataModule(configure(tmp_path, *words), progress=False)
    module.setup("fit")
    dataset = module.train_dataloader().dataset
    dataset[0]  # type: ignore[index]
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dataset_module, "sample_generator", lambda *_: pytest.fail("drawn"))
            sample = dataset[0]  # type: ignore[index]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    n_bytes = sample["xray"].untyped_storage().nbytes()
    assert n_bytes == sum(sample[name].nbytes for name in ("xray", "drr", "mask"))
    assert peak < n_bytes + sample["mask"].nbytes / 4  # less than the source's own 8-bit pixels


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


class ScalarReads(TorchDispatchMode):
    """Counts tensors turned into numbers, at each of which a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def scalar_reads(folder: Path, n_batches: int) -> int:
    """With `fused`, since AdamW otherwise reads its own step counters, which lie on the CPU."""
    words = ("data.n_cases=20", "trainer.max_epochs=1", f"trainer.limit_train_batches={n_batches}")
    words += ("callbacks.overlays.every_n_epochs=0", "data.augment.enabled=false")
    with ScalarReads() as reads:
        assert fit(configure(folder, *words, "optim.fused=true")) == 0
    return reads.count


def test_a_step_reads_one_number_from_the_device(tmp_path: Path) -> None:
    """Whether the loss is finite; no term of the loss, and no metric."""
    scalar_reads(tmp_path / "first", 2)  # decodes the cases
    two, five = scalar_reads(tmp_path / "two", 2), scalar_reads(tmp_path / "five", 5)
    assert five - two == 3


def test_the_metrics_keep_no_image() -> None:
    """What a case leaves behind is small, and the same whatever the size of its image."""

    def kept(size: int, n_cases: int) -> int:
        metrics = ValidationMetrics(evaluation=True)
        for number in range(n_cases):
            mask = torch.zeros(1, 1, size, size)
            mask[..., :4, :4] = 1.0
            metrics.update(mask, mask, mask, torch.ones(1, 2), [f"case-{number}"])
        states = [
            value
            for metric in metrics.values(copy_state=False)
            for key in metric._defaults
            for value in [getattr(metric, key)]
        ]
        tensors = [t for state in states for t in (state if isinstance(state, list) else [state])]
        last = [t for metric in metrics.values(copy_state=False) for t in metric.last.values()]  # type: ignore[union-attr]
        return sum(tensor.untyped_storage().nbytes() for tensor in [*tensors, *last])

    assert kept(32, 8) == kept(128, 8)
    assert (kept(32, 9) - kept(32, 8)) < 512


def test_monai_brings_no_mlflow_and_mlflow_stays_importable() -> None:
    script = (
        "import sys; from attnseg.losses.segmentation import focal_loss; focal_loss(2.0, None);"
        "from attnseg.nn.monai_control import _import;"
        "_import('monai.networks.nets.UNet');"
        "assert 'monai' in sys.modules and 'mlflow' not in sys.modules;"
        "import importlib.util as u; u.find_spec('mlflow'); print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize(("every", "measured"), [(1, 8), (3, 4)])
def test_training_batches_can_be_measured_every_nth(
    tmp_path: Path, every: int, measured: int
) -> None:
    words = (f"callbacks.train_metrics_every_n_steps={every}", "trainer.limit_train_batches=4")
    config = configure(tmp_path, *words, "data.n_cases=20", "trainer.max_epochs=1")
    assert fit(config) == 0
    header, row = (line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines())
    assert float(row[header.index("train/n_cases")]) == measured
