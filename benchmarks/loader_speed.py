"""Cases a second that training gets: from PNG, from the decoded cache, augmented; beside MONAI.

    python benchmarks/loader_speed.py --data ../shared/data/lidc_drr/LIDC_LDRI --cases 32

Real DRRs where --data is given, else synthetic pictures of 512 x 512 px. Whole images, one process
of one thread, in turns; the first turn (which fills caches) does not count. MONAI's pipelines do
the same work: read, scale the longer side to the size (masks by nearest), standardise, pad, and
for augmentation one affine map, flip, gamma, contrast, noise and blur with the same probabilities.
With `data.augment.on_device` the loader's part and the device's are told apart; the device is the
CPU here, one case a batch.
Then: the share of its time that a training waits for data, in Lightning's own loop.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from monai import transforms as mt  # noqa: E402
from monai.data import CacheDataset, Dataset, PersistentDataset  # noqa: E402
from step_cost import machine  # noqa: E402
from synthetic_set import write_lidc_layout  # noqa: E402

from attnseg.config import AugmentConfig, TrainConfig  # noqa: E402
from attnseg.config.compose import compose_checked  # noqa: E402
from attnseg.data.cache import decode_images  # noqa: E402
from attnseg.data.datamodule import AttnSegDataModule  # noqa: E402
from attnseg.data.dataset import TrainDataset  # noqa: E402
from attnseg.data.on_device import augment_batch, collate  # noqa: E402
from attnseg.data.transforms import render  # noqa: E402
from attnseg.imaging.window import full_window  # noqa: E402

KEYS = ("drr", "mask")


def monai_fixed(size: int) -> list[Any]:
    return [
        mt.LoadImaged(KEYS, ensure_channel_first=True, image_only=True),
        mt.Resized(KEYS, size, size_mode="longest", mode=("bilinear", "nearest"),
                   anti_aliasing=(True, False)),
        mt.NormalizeIntensityd("drr"),
        mt.AsDiscreted("mask", threshold=1),
        mt.ResizeWithPadOrCropd(KEYS, (size, size)),
    ]  # fmt: skip


def monai_random(config: AugmentConfig) -> list[Any]:
    """As attnseg's defaults; X-ray and DRR are one image here, so intensity is done twice."""
    p, shift = config.probability, config.translate
    geometry = [
        mt.CopyItemsd("drr", names="xray"),
        mt.RandFlipd(("xray", *KEYS), config.flip, 1),
        mt.RandAffined(("xray", *KEYS), prob=1 - (1 - p) ** 4, rotate_range=0.17,
                       scale_range=config.scale, translate_range=shift * 512,
                       mode=("bilinear", "bilinear", "nearest"), padding_mode="zeros"),
    ]  # fmt: skip
    intensity = [
        one
        for key in ("xray", "drr")
        for one in (
            mt.RandAdjustContrastd(key, p, (0.77, 1.3)),
            mt.RandScaleIntensityd(key, config.contrast, p),
            mt.RandGaussianSmoothd(key, (0.1, 1.0), (0.1, 1.0), prob=p),
            mt.RandGaussianNoised(key, p, std=config.noise),
        )
    ]
    return [*geometry, *intensity]


def contenders(module: AttnSegDataModule, cases: list[Any], work: Path) -> dict[str, Any]:
    """name -> function of a case's number that makes its sample."""
    size, source = module.config.size, module.source
    augment = module.config.augment
    off = augment.model_copy(update={"enabled": False})

    def train(config: AugmentConfig) -> TrainDataset:
        patch = module.config.patch
        return TrainDataset(cases, module.cache, patch=patch, augment=config, seed=1)

    def from_png(index: int) -> torch.Tensor:
        decoded = decode_images(source.load(cases[index]), size)
        return render(decoded, full_window(decoded.mask.shape, size))

    files = [{"drr": str(case.drr), "mask": str(case.mask)} for case in cases]
    fixed, random = monai_fixed(size), monai_random(augment)
    plain, full = mt.Compose(fixed), mt.Compose([*fixed, *random])
    ours, augmented = train(off), train(augment)
    deferred = train(augment.model_copy(update={"on_device": True}))
    turn = iter(range(10**9))
    sets: dict[str, Any] = {
        "PNG | attnseg": from_png,
        "PNG | MONAI Dataset": Dataset(files, plain).__getitem__,
        "cached | attnseg (disk)": ours.__getitem__,
        "cached | MONAI CacheDataset (memory)":
            CacheDataset(files, plain, num_workers=1, progress=False).__getitem__,
        "cached | MONAI PersistentDataset (disk)":
            PersistentDataset(files, plain, work / "p1").__getitem__,
        "augmented | attnseg (disk)": lambda i: augmented[next(turn) // len(cases), i],
        "augmented | attnseg, on_device: the loader":
            lambda i: deferred[next(turn) // len(cases), i],
        "augmented | attnseg, on_device: loader + CPU":
            lambda i: augment_batch(collate([deferred[next(turn) // len(cases), i]])),
        "augmented | MONAI CacheDataset (memory)":
            CacheDataset(files, full, num_workers=1, progress=False).__getitem__,
        "augmented | MONAI PersistentDataset (disk)":
            PersistentDataset(files, full, work / "p2").__getitem__,
    }  # fmt: skip
    return sets


def rate(make: Callable[[int], Any], count: int) -> tuple[float, float]:
    """Cases a second, and a second of CPU."""
    start, cpu = time.perf_counter(), time.process_time()
    for index in range(count):
        make(index)
    return count / (time.perf_counter() - start), count / (time.process_time() - cpu)


def waiting(root: Path, work: Path, words: list[str]) -> float:
    """Share of the time of an epoch's batches that Lightning waits for the next one."""
    from pytorch_lightning.profilers import SimpleProfiler

    from attnseg.runs.folder import RunFolder
    from attnseg.training.callbacks.interruption import StopRequest
    from attnseg.training.module import AttnSegModule
    from attnseg.training.trainer import build_trainer

    words = [f"data.root={root}", "data=lidc_drr", f"data.cache_dir={work / 'cache'}",
             "trainer.accelerator=cpu", "trainer.progress_bar=false",
             "schedule.total_epochs=2", "trainer.limit_train_batches=8",
             "trainer.limit_val_batches=0", "callbacks.early_stopping.enabled=false",
             f"run.dir={work / 'run'}", *words]  # fmt: skip
    config = compose_checked("train", words, TrainConfig)
    trainer = build_trainer(config, RunFolder(work / "run"), StopRequest())
    profiler = trainer.profiler = SimpleProfiler()
    profiler.describe = lambda: None  # type: ignore[method-assign]  # three pages
    data = AttnSegDataModule(config, progress=False)
    trainer.fit(AttnSegModule(config), datamodule=data)
    spent = {name: sum(values) for name, values in profiler.recorded_durations.items()}
    wait = sum(v for name, v in spent.items() if "train_dataloader_next" in name)
    return wait / (wait + spent["run_training_batch"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder that data=lidc_drr reads")
    parser.add_argument("--cases", type=int, default=32)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--waiting", action="store_true", help="also train, and time the waiting")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="loader-speed-") as folder:
        work = Path(folder)
        root = args.data or write_lidc_layout(work, args.cases, 512)
        words = [f"data.root={root}", "data=lidc_drr", f"data.size={args.size}",
                 f"data.cache_dir={work / 'cache'}"]  # fmt: skip
        config = compose_checked("train", words, TrainConfig)
        module = AttnSegDataModule(config, progress=False)
        cases = module.all_cases[: args.cases]
        module.cache.warm(cases, progress=False)
        makers = contenders(module, cases, work)
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
        for turn in range(args.repeats + 1):
            for name, make in makers.items():
                found = rate(make, len(cases))
                if turn:
                    rates[name].append(found)
            print(f"turn {turn} of {args.repeats}", file=sys.stderr, flush=True)
        print(f"{len(cases)} cases, {args.size} px; {machine()}; load {os.getloadavg()[0]:.1f}\n")
        print(f"{'':46}{'cases/s':>9}{'min-max':>14}{'per CPU s':>11}{'attnseg by CPU':>16}")
        base: dict[str, float] = {}
        for name, values in rates.items():
            wall, cpu = [v[0] for v in values], statistics.median(v[1] for v in values)
            ratio = base.setdefault(name.split(" |")[0], cpu) / cpu
            print(f"{name:46}{statistics.median(wall):9.1f}{min(wall):7.1f}-{max(wall):<6.1f}"
                  f"{cpu:11.1f}{ratio:14.2f} x")  # fmt: skip
        if args.waiting:
            print("\nshare of a training's time that it waits for data")
            for workers in (0, 1, 2):
                share = waiting(root, work, [f"data.num_workers={workers}"])
                print(f"data.num_workers={workers}: {share:.1%}")


if __name__ == "__main__":
    main()
