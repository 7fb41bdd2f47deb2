from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from attnseg.common.errors import DataError
from attnseg.imaging.images import binary_mask, read_image, read_mask, write_image


def _pixels(dtype: type = np.uint8, shape: tuple[int, ...] = (12, 20)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_its_pixels_and_bits_but_knows_no_spacing(tmp_path: Path, dtype: type) -> None:
    pixels = _pixels(dtype) * dtype(1 if dtype is np.uint8 else 300)
    write_image(tmp_path / "new" / "a.png", pixels, (0.5, 0.7))
    picture = read_image(tmp_path / "new" / "a.png")
    assert picture.pixels.dtype == dtype
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.spacing is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]  # no leftovers


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mha"])
def test_spacing_is_row_then_column(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, _pixels(np.int16), (0.5, 0.7))
    picture = read_image(tmp_path / name)
    assert picture.pixels.shape == (12, 20)
    assert picture.pixels.dtype == np.int16
    assert picture.spacing == pytest.approx((0.5, 0.7))


def _dicom(path: Path, *, monochrome: int = 2, spacing: bool = True) -> np.ndarray:
    pixels = _pixels(np.uint16, (1, 12, 20))
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing((0.7, 0.5, 1.0))
    sitk.WriteImage(image, str(path))
    raw = path.read_bytes().replace(b"MONOCHROME2 ", f"MONOCHROME{monochrome} ".encode())
    if not spacing:  # ITK writes (0018,2010) or (0028,0030): make them tags that mean nothing
        raw = raw.replace(b"\x18\x00\x10\x20\x06", b"\x18\x00\x11\x20\x06")
        raw = raw.replace(b"\x28\x00\x30\x00\x06", b"\x28\x00\x33\x00\x06")
    path.write_bytes(raw)
    return pixels[0]


def test_dicom_pixels_and_spacing(tmp_path: Path) -> None:
    pixels = _dicom(tmp_path / "a.dcm")
    picture = read_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.spacing == pytest.approx((0.5, 0.7))


def test_dicom_without_a_spacing_tag_has_none(tmp_path: Path) -> None:
    _dicom(tmp_path / "a.dcm", spacing=False)
    assert read_image(tmp_path / "a.dcm").spacing is None


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    pixels = _dicom(tmp_path / "a.dcm", monochrome=1)
    read = read_image(tmp_path / "a.dcm").pixels
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, 65535 - pixels)


def test_a_stack_of_one_slice_is_an_image_and_of_more_is_refused(tmp_path: Path) -> None:
    for n, name in ((1, "one.nii.gz"), (3, "three.nii.gz")):
        sitk.WriteImage(sitk.GetImageFromArray(_pixels(np.int16, (n, 12, 20))), tmp_path / name)
    assert read_image(tmp_path / "one.nii.gz").pixels.shape == (12, 20)
    with pytest.raises(DataError, match=r"three.nii.gz: 3 x 12 x 20 voxels"):
        read_image(tmp_path / "three.nii.gz")


def test_grey_stored_as_colour_is_read_and_colour_is_refused(tmp_path: Path) -> None:
    grey = np.repeat(_pixels()[..., None], 3, axis=-1)
    coloured = grey.copy()
    coloured[3, 4] = (255, 0, 0)
    for name, pixels in (("grey.png", grey), ("coloured.png", coloured)):
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png").pixels, _pixels())
    with pytest.raises(DataError, match=r"coloured.png: a colour image"):
        read_image(tmp_path / "coloured.png")


@pytest.mark.parametrize("name", ["a.png", "a.nii.gz", "a.nii", "a.mha", "a.dcm"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    write_image(path, _pixels(np.uint8, (64, 64)))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(DataError, match=name):
        read_image(path)


def test_missing_text_and_non_finite_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.png: no such file"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(DataError, match=r"text.png: cannot be decoded"):
        read_image(tmp_path / "text.png")
    pixels = _pixels(np.float32)
    pixels[2, 3] = np.nan
    write_image(tmp_path / "nan.mha", pixels)
    with pytest.raises(DataError, match=r"nan.mha: 1 pixels are NaN"):
        read_image(tmp_path / "nan.mha")


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_has_zero_and_one_other_value(tmp_path: Path, value: int) -> None:
    mask = (np.eye(9) * value).astype(np.uint8)
    write_image(tmp_path / "m.png", mask)
    read = read_mask(tmp_path / "m.png").pixels
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, np.eye(9))
    mask[0, 1] = 7
    with pytest.raises(DataError, match=r"m: not a binary mask: 3 values \(0, "):
        binary_mask(mask, "m")
