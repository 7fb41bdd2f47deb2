from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from attnseg.common.errors import DataError
from attnseg.data.contact_sheet import contact_sheet
from tests.conftest import data_section


def test_a_sheet_shows_images_with_the_mask_s_outline(
    lidc_folder: Callable[..., Path], tmp_path: Path
) -> None:
    config = data_section(
        name="lidc_drr", root=str(lidc_folder(6)), size=64, cache_dir=str(tmp_path / "c")
    )
    path = contact_sheet(config, "all", 4, tmp_path / "new" / "sheet.png")
    pixels = imread(path)[..., :3]
    colourful = np.ptp(pixels, axis=-1) > 0.5  # nothing but the outlines has colour
    assert colourful.sum() > 100
    one = imread(contact_sheet(config, "val", 9, tmp_path / "one.png"))
    assert one.shape[0] < pixels.shape[0]
    with pytest.raises(DataError, match="test split has no cases"):
        contact_sheet(config, "test", 4, tmp_path / "none.png")
