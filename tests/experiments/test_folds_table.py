"""How the table of folds calls its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnseg.commands.compare_check import Present, Standing
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from experiments import folds_table
from experiments.folds_table import row_of
from tests.reports.compare.fakes import fake_run


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


@pytest.mark.parametrize(
    ("kind", "again"), [("holds", False), ("unchecked", False), ("other data", True)]
)
def test_a_fold_is_measured_again_where_its_figures_hold_no_more(
    kind: Any, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run(tmp_path / "run", evaluated="val")
    (run / "evaluate" / "phantom-val").rename(run / "evaluate" / "folds")
    measured: list[list[str]] = []
    monkeypatch.setattr(folds_table, "attnseg", lambda words: measured.append(words))
    monkeypatch.setattr(Present, "standing", lambda *_: Standing(kind, "why"))
    assert len(folds_table.cases_of(run, [], Present())) == 24
    assert bool(measured) == again
