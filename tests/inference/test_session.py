"""What a command's cases share, and what makes a case's results out of date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attnseg.config import PredictConfig
from attnseg.config.compose import compose_checked
from attnseg.inference.inputs import Item
from attnseg.inference.session import case_key, settings_of
from attnseg.runs.archive import digest_of_weights
from attnseg.runs.checkpoints import LoadedCheckpoint
from attnseg.runs.patients import TrainedPatients
from tests.conftest import configure


def member(folder: Path, value: float = 1.0, **record: Any) -> LoadedCheckpoint:
    weights = {"a": torch.full((3,), value), "b": torch.zeros(())}
    return LoadedCheckpoint(
        folder, configure(folder), weights, 0.5, "id", record, None, TrainedPatients()
    )


def configured(*words: str) -> PredictConfig:
    return compose_checked("predict", ["checkpoint=a", "images=b", "out=c", *words], PredictConfig)


def key(folder: Path, *words: str, value: float = 1.0) -> str:
    return settings_of(configured(*words), [member(folder, value)], 0.5, attention=True).key


def test_a_key_follows_weights_and_options_but_not_how_they_are_computed(tmp_path: Path) -> None:
    plain = key(tmp_path)
    assert key(tmp_path, "batch_size=2", "page_cases=3", "resume=false") == plain
    changed = [key(tmp_path, word) for word in ("tta=flip", "tiles=2", "seed=1", "save=[png]")]
    assert len({plain, key(tmp_path, value=2.0), *changed}) == 6
    assert digest_of_weights(member(tmp_path).weights) == digest_of_weights(
        member(tmp_path / "moved").weights
    )


def test_a_cases_key_follows_its_files(tmp_path: Path) -> None:
    settings = settings_of(configured(), [member(tmp_path)], 0.5, attention=True)
    image = tmp_path / "a.png"
    image.write_bytes(b"one")
    first = case_key(Item("a", image), settings)
    assert case_key(Item("a", image), settings) == first
    assert case_key(Item("a", image, image), settings) != first
    image.write_bytes(b"other")
    assert case_key(Item("a", image), settings) != first


@pytest.mark.parametrize(
    ("word", "n_dicom", "expected"),
    [
        ("window=auto", 0, "header"),
        ("window=auto", 3, "none"),
        ("window=header", 3, "header"),
        ("window=none", 0, "none"),
    ],
)
def test_dicom_values_are_taken_as_training_saw_them(
    tmp_path: Path, word: str, n_dicom: int, expected: str
) -> None:
    trained = member(tmp_path, source={"name": "manifest", "n_dicom": n_dicom})
    settings = settings_of(configured(word), [trained], 0.5, attention=True)
    assert settings.window == expected


def test_a_manifest_counts_its_dicom_images(tmp_path: Path) -> None:
    import numpy as np

    from attnseg.data.sources.manifest import ManifestSource
    from tests.inference.helpers import write_dicom

    write_dicom(tmp_path / "IM1", np.zeros((8, 8), np.uint16))
    (tmp_path / "a.png").write_bytes(b"no DICOM")
    lines = ["case,patient,xray,drr,mask", "a,a,IM1,,none", "b,b,a.png,,none"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    source = ManifestSource(root=str(tmp_path))
    assert source.record["n_dicom"] == 1
