"""The original's figure: pairs in sorted order, whatever the order of arrival."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from attnseg.metrics.original import OriginalDice

from . import references, tester


def measure(cases: list[references.Example], size: int) -> float:
    metric = OriginalDice()
    for batch in tester.batched(cases, size):
        metric.update(batch["probability"], batch["mask"], batch["case_ids"])
    return metric.compute()["dice_original"]


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_is_the_original_figure_in_any_order_of_arrival(n: int) -> None:
    cases = [tester.lifelike(i, (16, 16), i % 3) for i in range(n)]
    wanted = references.dice_original(cases)
    for size in (1, 3):
        random.Random(size).shuffle(cases)
        assert measure(cases, size) == pytest.approx(wanted, rel=1e-9)


def test_depends_on_who_is_paired_with_whom() -> None:
    cases = [tester.lifelike(i, (16, 16), n) for i, n in enumerate([3, 0, 0, 1])]
    figures = set()
    for ids in ("abcd", "acbd"):
        renamed = [case._replace(case_id=name) for case, name in zip(cases, ids, strict=True)]
        figures.add(round(measure(renamed, 2), 9))
    assert len(figures) == 2


def test_ids_sort_as_strings_do() -> None:
    ids = ["b", "B", "b10", "b9", "é", "z", "日本", "b" * 200 + "1", "b" * 200 + "0", "", "b "]
    zero = torch.zeros(len(ids), 1, 4, 4)
    probability = zero + torch.arange(1, len(ids) + 1)[:, None, None, None] / 20
    metric = OriginalDice()
    metric.update(probability, zero + 1, ids)
    p = probability.double().flatten(1).sum(1).numpy()[np.argsort(np.array(ids, dtype=object))]
    pairs = [p[start : start + 2] for start in range(0, len(p), 2)]
    wanted = np.mean([(2 * q.sum() + 1e-7) / (q.sum() + 16 * len(q) + 1e-7) for q in pairs])
    assert metric.compute()["dice_original"] == pytest.approx(float(wanted))


def test_without_cases_it_is_undefined() -> None:
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert tester.is_nan(OriginalDice().compute()["dice_original"])
