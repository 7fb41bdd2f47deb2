"""From hospital files and back: CT series -> drr -> train -> predict on DICOM -> DICOM SEG."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from attnseg.cli import main
from attnseg.imaging.images import read_image
from tests.conftest import TINY
from tests.imaging.drr.helpers import chest, write, write_series
from tests.inference.helpers import as_integers, read_seg_by_hand, write_dicom

PATIENTS = 6
CHEST = (40, 40, 48)


@pytest.fixture(scope="module")
def drrs(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Path:
    """The DRRs of six CTs that came as DICOM series, with a manifest."""
    folder = tmp_path_factory.mktemp("hospital")
    for number in range(PATIENTS):
        hu, mask = chest((*CHEST[:2], CHEST[2] + 2 * number), seed=number)
        person = {"0010|0020": f"PID-{number}"}
        write_series(folder / "ct" / f"scan{number}", hu, uid=f"1.2.3.{number}", tags=person)
        write(folder / "mask" / f"scan{number}.nii.gz", mask)
    words = [f"ct={folder}/ct", f"mask={folder}/mask", f"out={folder}/drr"]
    beam = ["projection=cone_beam", "projection.detector.size=[60,64]"]
    quiet = ["progress_bar=false", "workers=0"]
    assert main(["drr", *words, *beam, "projection.detector.pixel_mm=0.8", *quiet]) == 0
    return folder / "drr"


@pytest.fixture(scope="module")
def trained(drrs: Path) -> Path:
    run = drrs.parent / "run"
    tiny = [word for word in TINY if not word.startswith("data.n_cases")]
    words = ["data=manifest", f"data.root={drrs}", "schedule.total_epochs=4", "optim.lr=3e-3"]
    assert main(["train", *tiny, *words, f"run.dir={run}"]) == 0
    return run


def test_a_ct_comes_back_as_a_segmentation(drrs: Path, trained: Path, tmp_path: Path) -> None:
    with (drrs / "manifest.csv").open(newline="") as stream:
        row = next(csv.DictReader(stream))
    picture = read_image(drrs / row["drr"])
    spacing = tuple(float(side) for side in row["spacing"].split("x"))
    stored = as_integers(picture.pixels)
    source = write_dicom(tmp_path / "in" / "IM0001", stored, monochrome=1, spacing=spacing)
    words = [f"checkpoint={trained}", f"images={source}", f"out={tmp_path / 'out'}"]
    # Whatever so small a model has learnt, half of the pixels above a low threshold are a mask.
    assert main(["predict", *words, "accelerator=cpu", "threshold=0.01"]) == 0
    case = tmp_path / "out" / "cases" / "IM0001"
    mask = sitk.ReadImage(str(case / "mask.nii.gz"))
    pixels = sitk.GetArrayFromImage(mask)
    assert pixels.shape == stored.shape == (60, 64)
    assert mask.GetSpacing() == pytest.approx(spacing[::-1])
    assert pixels.any()
    np.testing.assert_array_equal(read_seg_by_hand(case / "segmentation.dcm"), pixels)


def test_the_run_knows_where_its_data_came_from(drrs: Path, trained: Path) -> None:
    from attnseg.runs.checkpoints import load_checkpoints

    [loaded] = load_checkpoints(str(trained))
    record = loaded.data_record
    assert record["source"]["name"] == "manifest"
    assert sum(count["cases"] for count in record["splits"].values()) == PATIENTS
    assert "PID" not in str(loaded.trained.record())
