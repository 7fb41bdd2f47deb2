"""One tester for all metrics: the same cases serially, on two processes, and by the references."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from attnseg.metrics.collection import ValidationMetrics

from .references import NAN, Example

OPTIONS = {"training": {}, "evaluation": {"threshold": 0.4, "evaluation": True}}
"""How `ValidationMetrics` is made during training, and in an evaluation."""


def tensors(cases: list[Example]) -> dict[str, object]:
    """A batch: the arguments of `ValidationMetrics.update`."""
    fields = {
        name: torch.from_numpy(np.stack([getattr(case, name) for case in cases])[:, None])
        for name in ("attention", "probability", "mask")
    }
    spacing = torch.tensor([case.spacing for case in cases], dtype=torch.float32)
    return {**fields, "spacing": spacing, "case_ids": [case.case_id for case in cases]}


def batched(cases: list[Example], size: int) -> list[dict[str, object]]:
    """Batches of at most `size` consecutive cases of one shape."""
    groups: list[list[Example]] = []
    for case in cases:
        fits = groups and len(groups[-1]) < size and groups[-1][0].mask.shape == case.mask.shape
        groups[-1].append(case) if fits else groups.append([case])
    return [tensors(group) for group in groups]


def run(cases: list[Example], size: int = 3, **options: object) -> dict[str, float]:
    """`ValidationMetrics` over the cases, on this process."""
    metrics = ValidationMetrics(**options)  # type: ignore[arg-type]
    for batch in batched(cases, size):
        metrics.update(**batch)  # type: ignore[arg-type]
    return metrics.compute()


def assert_same(got: dict[str, float], wanted: dict[str, float], tolerance: float = 1e-6) -> None:
    """Same keys, and values that agree to rounding; NaN equals NaN."""
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        expected = pytest.approx(value, rel=tolerance, abs=tolerance, nan_ok=True)
        assert got[name] == expected, f"{name}: got {got[name]}, reference {value}"


# --- cases ----------------------------------------------------------------------------------


def blob(shape: tuple[int, int], at: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    squared = (rows - at[0]) ** 2 + (columns - at[1]) ** 2
    return np.exp(-squared / (2 * radius**2)).astype(np.float32)


def lifelike(number: int, shape: tuple[int, int], n_lesions: int) -> Example:
    """A mask of discs, a prediction that is about right, attention that is broader."""
    rng = np.random.default_rng(number)
    mask = np.zeros(shape, dtype=np.float32)
    probability = 0.15 * rng.random(shape, dtype=np.float32)
    attention = 0.1 * rng.random(shape, dtype=np.float32)
    for _ in range(n_lesions):
        at = tuple(rng.uniform(3, n - 3) for n in shape)
        radius = rng.uniform(1.0, 3.5)
        mask = np.maximum(mask, blob(shape, at, radius) > 0.5)
        near = tuple(x + rng.normal(0, 1.5) for x in at)
        probability = np.maximum(probability, rng.uniform(0.1, 1) * blob(shape, near, radius))
        attention = np.maximum(attention, rng.uniform(0.5, 1) * blob(shape, near, 3 * radius))
    if rng.random() < 0.7:  # a false alarm
        at = tuple(rng.uniform(0, n) for n in shape)
        probability = np.maximum(probability, rng.uniform(0.1, 1) * blob(shape, at, 2.0))
    spacing = (NAN, NAN) if number % 4 == 3 else (rng.uniform(0.5, 8), rng.uniform(0.5, 8))
    maps = (one.astype(np.float32) for one in (attention, probability, mask))
    return Example(*maps, spacing=spacing, case_id=f"case-{rng.integers(10**6)}-{number}")


def adversarial() -> list[Example]:
    """What breaks metrics: flat maps, ties, one pixel, all pixels, none, saturation."""
    shape = (20, 27)
    rng = np.random.default_rng(7)
    noise = rng.random(shape, dtype=np.float32)
    zero, one = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    pixel, corner = zero.copy(), zero.copy()
    pixel[5, 8] = 1
    corner[-1, -1] = 1
    disc = (blob(shape, (9, 13), 3) > 0.5).astype(np.float32)
    steps = np.floor(noise * 4).astype(np.float32) / 4
    ulp = np.full(shape, 0.5, np.float32)
    ulp[disc > 0] = np.nextafter(np.float32(0.5), np.float32(1))
    maps = {
        "constant attention": (0.3 * one, noise, disc),
        "no attention": (zero, noise, disc),
        "all attention": (one, disc, disc),
        "constant prediction": (noise, 0.6 * one, disc),
        "predicts nothing": (noise, zero, disc),
        "predicts all": (noise, one, pixel),
        "ties": (steps, steps, disc),
        "one pixel": (noise, 0.9 * pixel, pixel),
        "corner": (corner, noise, corner),
        "full mask": (noise, noise, one),
        "empty mask": (noise, noise, zero),
        "empty mask, nothing predicted": (noise, zero, zero),
        "perfect": (disc, disc, disc),
        "two peaks": (np.maximum(pixel, corner), disc, disc),
        "nearly flat": (ulp, ulp, disc),
        "tiny values": (1e-20 * noise, 1e-20 * noise, disc),
        "everything alike": (0.5 * one, 0.5 * one, one),
    }
    spacings = [(0.7, 0.7), (NAN, NAN), (1.5, 0.4), (NAN, 1.0)]
    return [
        Example(*(one.astype(np.float32) for one in three), spacings[i % 4], f"{i % 5} {name}")
        for i, (name, three) in enumerate(maps.items())
    ]


def mixture() -> list[Example]:
    """Positives and negatives of two shapes, half of them of unknown spacing or none."""
    shapes = [(32, 32), (24, 40)]
    return [lifelike(i, shapes[i // 6], n_lesions=i % 4) for i in range(12)] + adversarial()


# --- two processes ----------------------------------------------------------------------------


def splits() -> dict[str, tuple[list[Example], list[Example]]]:
    """Cases of rank 0 and rank 1."""
    cases = mixture()
    negatives = [case for case in cases if not case.truth.any()]
    return {
        "uneven": (cases[:9], cases[9:]),
        "rank without cases": (cases[:8], []),
        "rank without positives": (negatives, cases[2:5]),
        "no positive at all": (negatives[:2], negatives[2:]),
        "no case at all": ([], []),
    }


def run_on_two(folder: Path) -> dict[str, list[dict[str, float]]]:
    """All splits and options on two gloo processes: "split/option" -> results by rank."""
    mp.spawn(_rank, args=(str(folder),), nprocs=2)
    by_rank = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
    return {name: [results[name] for results in by_rank] for name in by_rank[0]}


def _rank(rank: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    results: dict[str, dict[str, float]] = {}
    for option, arguments in OPTIONS.items():
        metrics = ValidationMetrics(**arguments)  # type: ignore[arg-type]
        for name, split in splits().items():
            if option == "training" and name != "uneven":
                continue  # collectives are what takes time here
            metrics.reset()
            for batch in batched(split[rank], 2):
                metrics.update(**batch)  # type: ignore[arg-type]
            first = metrics.compute()
            if split[rank]:  # gathering must leave this rank's own states as they were
                metrics.update(**batched(split[rank], 2)[0])  # type: ignore[arg-type]
                assert metrics["alignment"]._update_count == len(batched(split[rank], 2)) + 1
            results[f"{name}/{option}"] = first
    Path(folder, f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


def is_nan(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)
