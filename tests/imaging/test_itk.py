"""What ITK is asked for: no more than there is room for, by names that it can take."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from attnseg.common.errors import DataError
from attnseg.imaging import itk
from attnseg.imaging.drr.reading import read_ct
from attnseg.imaging.images import read_image, write_image
from tests.hostile import BOMBS, NAMES, SIDE, named


@pytest.mark.parametrize("ending", BOMBS)
def test_a_header_that_claims_too_much_is_refused(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb{ending}"
    path.write_bytes(BOMBS[ending](SIDE))
    with pytest.raises(DataError, match=r"its header says (60000 x 60000|32767 x 32767) px"):
        read_image(path)


def test_what_the_free_memory_does_not_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png", np.zeros((64, 64), np.uint8))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((9, 64, 64), np.int16)), tmp_path / "ct.mha")
    monkeypatch.setattr(itk, "available_memory", lambda: 50_000)
    with pytest.raises(DataError, match=r"64 x 64 px, for which .* GiB of memory"):
        read_image(tmp_path / "a.png")
    with pytest.raises(DataError, match="64 x 64 x 9 voxels, for which"):
        read_ct(tmp_path / "ct.mha")


def test_what_lies_behind_the_pixels_is_not_read(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.ones((4, 5), np.float32))
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    bomb = (tmp_path / "a.nii").read_bytes() + bytes(50_000_000)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bomb, 1))
    import tracemalloc

    tracemalloc.start()
    assert read_image(tmp_path / "a.nii.gz").pixels.sum() == 20
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", [".png", ".nii.gz", ".mhd"])
def test_a_file_of_any_name_is_read(name: bytes, ending: str, tmp_path: Path) -> None:
    pixels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    folder = named(tmp_path, b"f\xfflder", "")
    folder.mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / f"plain{ending}"))
    for path in tmp_path.glob("plain*"):
        path.rename(folder / path.name)
    np.testing.assert_array_equal(read_image(folder / f"plain{ending}").pixels, pixels)
    if ending != ".mhd":  # whose pixels are named in it
        path = named(folder, name, ending)
        (folder / f"plain{ending}").rename(path)
        np.testing.assert_array_equal(read_image(path).pixels, pixels)
