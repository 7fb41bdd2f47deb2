"""What the progress bar of a training says."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.training.fit import fit
from tests.conftest import configure


def test_epochs_are_counted_as_everywhere_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("trainer.progress_bar=true", "schedule.total_epochs=3", "trainer.max_epochs=2")
    assert fit(configure(tmp_path, *words)) == 0
    shown = capsys.readouterr().out
    assert "Epoch 2/2" in shown
    assert "Epoch 0" not in shown
    assert "loss:" in shown
