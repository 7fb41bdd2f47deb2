"""The Python door: compose, fit, evaluate and load do what the commands do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

import attnseg
from attnseg.cli import main
from attnseg.common.errors import ConfigError, DataError
from attnseg.imaging.images import read_image, write_image
from attnseg.runs.checkpoints import load_checkpoints
from attnseg.runs.folder import RunFolder
from tests.conftest import tiny
from tests.inference.helpers import as_integers, phantom_images


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    """And nothing else is public at the top."""
    code = (
        "import attnseg, sys, json; names = dir(attnseg); light = 'torch' not in sys.modules; "
        "print(json.dumps([names == sorted(attnseg.__all__), light])); "
        "[getattr(attnseg, name) for name in names]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, True]
    assert set(attnseg.__all__) == {
        "compose",
        "evaluate",
        "fit",
        "load",
        "AttnSegModule",
        "AttnSegDataModule",
        "trainer_arguments",
        "__version__",
    }


class Counting(pl.Callback):
    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = state_dict["steps"]


def test_a_run_is_fitted_gone_on_with_and_measured(tmp_path: Path) -> None:
    words = [*tiny(), f"run.dir={tmp_path / 'run'}"]
    logger, first, second = CSVLogger(tmp_path / "logs"), Counting(), Counting()
    config = attnseg.compose([*words, "trainer.max_epochs=1"])
    attnseg.fit(config, callbacks=[first])
    run = attnseg.fit(attnseg.compose(words), callbacks=[second], loggers=[logger])
    assert (run.folder, run.state) == (tmp_path / "run", "finished")
    assert second.steps == 2 * first.steps > 0  # what it had counted came back
    assert "val/dice_positive" in (Path(logger.log_dir) / "metrics.csv").read_text()
    assert attnseg.fit(attnseg.compose(words)) == run  # which is left as it is

    found = attnseg.evaluate(run.folder, "train", ["accelerator=cpu", "n_pictures=0"])
    assert found.metrics == json.loads((found.folder / "metrics.json").read_text())
    assert (found.metrics["split"], found.folder.parent.parent) == ("train", run.folder)
    with pytest.raises(ConfigError, match=r"made of the configuration alone"):
        attnseg.fit(attnseg.compose([*words, "trainer=ddp_cpu"]), callbacks=[first])
    with pytest.raises(ConfigError, match=r"optim\.lrr"):
        attnseg.compose(["optim.lrr=1"])


@pytest.mark.parametrize(
    ("options", "members", "shape"),
    [
        ({}, 1, (64, 64)),
        ({"tta": "flip", "mc_dropout": 2, "seed": 3}, 1, (97, 61)),
        ({"tiles": 2, "threshold": 0.2, "min_lesion_px": 3}, 2, (150, 201)),
    ],
)
def test_arrays_give_what_predict_finds_in_files(
    options: dict[str, Any],
    members: int,
    shape: tuple[int, int],
    tmp_path: Path,
    detector: RunFolder,
    finished: RunFolder,
) -> None:
    """PNG, odd sizes and a list of checkpoints; with a DRR and without."""
    checkpoints = [str(detector.path), str(finished.path)][:members]
    model = attnseg.load(checkpoints, accelerator="cpu")
    [images] = phantom_images(1, size=224)
    pictures = {"x": images.xray, "d": images.drr}
    pictures = {
        name: as_integers(image)[: shape[0], : shape[1]] for name, image in pictures.items()
    }
    for name, pixels in pictures.items():
        write_image(tmp_path / f"{name}.png", pixels)
    for drr in (None, "d"):
        out = tmp_path / f"out-{drr}"
        words = [f"{key}={value}" for key, value in options.items()]
        words += [f"drr={tmp_path / 'd.png'}"] if drr else []
        given = [f"checkpoint=[{','.join(checkpoints)}]", f"images={tmp_path / 'x.png'}"]
        assert (
            main(["predict", *given, f"out={out}", "accelerator=cpu", "save=[nifti]", *words]) == 0
        )
        made = out / "cases" / "x"
        found = model.predict(pictures["x"], pictures.get(drr or ""), case="x", **options)
        assert found.probability.shape == found.mask.shape == shape
        maps = {"probability": found.probability, "attention": found.attention, "mask": found.mask}
        maps["uncertainty_std"], maps["uncertainty_entropy"] = found.std, found.entropy
        for name, values in maps.items():
            file = made / f"{name}.nii.gz"
            assert file.is_file() is (values is not None), name
            if values is not None:
                np.testing.assert_allclose(values, read_image(file).pixels, atol=1e-5)
        record = json.loads((made / "result.json").read_text())
        assert [lesion.record() for lesion in found.lesions] == record["lesions"]
        assert (found.std is None) is (not options and members == 1)
    assert model.threshold == np.mean([one.threshold for one in load_checkpoints(checkpoints)])


def test_a_spacing_gives_mm_and_makes_pixels_square(tmp_path: Path, detector: RunFolder) -> None:
    [images] = phantom_images(1, size=96)
    write_image(tmp_path / "x.nii.gz", images.xray, (1.5, 0.5))
    given = [f"checkpoint={detector.path}", f"images={tmp_path / 'x.nii.gz'}", "save=[nifti]"]
    words = [f"out={tmp_path / 'out'}", "accelerator=cpu", "threshold=0.01"]
    assert main(["predict", *given, *words]) == 0
    model = attnseg.load(detector.path, accelerator="cpu")
    found = model.predict(images.xray, spacing=(1.5, 0.5), threshold=0.01)
    made = tmp_path / "out" / "cases" / "x"
    assert np.allclose(found.probability, read_image(made / "probability.nii.gz").pixels, atol=1e-5)
    record = json.loads((made / "result.json").read_text())
    assert [lesion.record() for lesion in found.lesions] == record["lesions"]
    assert record["lesions"][0]["row_mm"] is not None


def test_what_is_no_image_is_refused(detector: RunFolder) -> None:
    model, image = attnseg.load(detector.path, accelerator="cpu"), np.ones((40, 30))
    with pytest.raises(DataError, match=r"xray: a grey image is needed.*\(40, 30, 3\)"):
        model.predict(np.ones((40, 30, 3)))
    with pytest.raises(DataError, match="drr: 1200 pixels are not finite"):
        model.predict(image, image * np.nan)
    with pytest.raises(DataError, match="the DRR is 20 x 30 px"):
        model.predict(image, image[:20])
    with pytest.raises(DataError, match="two numbers above 0"):
        model.predict(image, spacing=(0.0, 1.0))
    with pytest.raises(ConfigError, match="save is for files"):
        model.predict(image, save=["png"])
    with pytest.raises(ConfigError, match="thresold"):
        model.predict(image, thresold=0.3)
