"""How the table of folds calls its rows."""

from __future__ import annotations

from typing import Any

import pytest

from attnseg.commands.compose import compose_checked
from attnseg.config import TrainConfig
from experiments.folds_table import row_of


def settings(fold: int, origin: str | None = None, *more: str) -> dict[str, Any]:
    words = ["experiment=lidc_attention", f"data.split.fold={fold}", "data.root=/drrs", *more]
    config = compose_checked("train", words, TrainConfig)
    return config.model_copy(update={"origin": origin}).model_dump(mode="json")


def test_a_row_is_called_by_what_differs_from_the_first_of_its_name() -> None:
    first: dict[str, Any] = {}
    runs = [settings(0), settings(1), settings(0, None, "loss.segmentation.blob=1.0")]
    rows = [row_of(run, first, pool_origins=False) for run in runs]
    assert rows == ["anatomical", "anatomical", "anatomical segmentation.blob=1"]


@pytest.mark.parametrize(
    ("pool", "names"),
    [(True, ["origin=warmstart"]), (False, ["origin=warmstart:aa", "origin=warmstart:bb"])],
)
def test_folds_that_began_each_from_its_own_weights_can_be_one_row(
    pool: bool, names: list[str]
) -> None:
    first: dict[str, Any] = {}
    runs = [settings(0), settings(0, "warmstart:aa"), settings(1, "warmstart:bb")]
    rows = [row_of(run, first, pool_origins=pool) for run in runs]
    assert sorted(set(rows)) == ["anatomical", *(f"anatomical {name}" for name in names)]
