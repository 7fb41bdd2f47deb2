from __future__ import annotations

import os

import pytest
import torch

from attnseg.common.parallel import default_workers, for_each


def _square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_whoever_makes_them(workers: int) -> None:
    done = for_each(_square, range(40), description="squares", workers=workers, progress=False)
    assert [value for value, _ in done] == [number**2 for number in range(40)]
    assert len({process for _, process in done}) == max(1, workers)


def test_few_items_are_not_worth_a_process() -> None:
    done = for_each(_square, range(4), description="squares", workers=2, progress=False)
    assert {process for _, process in done} == {os.getpid()}


def test_large_items_are_worth_a_process() -> None:
    done = for_each(_square, range(2), description="", workers=2, progress=False, worth_processes=2)
    assert os.getpid() not in {process for _, process in done}


def test_the_bar_is_drawn_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_rng_state()
    assert len(for_each(_square, range(4), description="squaring", workers=0)) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert "squaring" in err
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_keep_to_the_cpus() -> None:
    assert 1 <= default_workers() <= 4
