"""Radiographs as hospitals send them: shown as a viewer shows them, or refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import JPEGLSLossless, RLELossless

from attnseg.common.errors import DataError
from attnseg.imaging.images import read_image, write_image
from attnseg.imaging.radiograph import kind_of, read_radiograph
from tests.inference.helpers import PATIENT, write_dicom

RNG = np.random.default_rng(2)


def stored(shape: tuple[int, int] = (24, 32), bits: int = 12) -> np.ndarray:
    return RNG.integers(0, 2**bits, shape).astype(np.uint16)


def standard(pixels: np.ndarray) -> np.ndarray:
    """What the model sees: any linear change of the values vanishes."""
    pixels = pixels.astype(np.float64)
    return (pixels - pixels.mean()) / pixels.std()


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("window", ["header", "none"])
def test_monochrome1_and_2_are_the_same_picture(tmp_path: Path, bits: int, window: Any) -> None:
    pixels = stored(bits=bits)
    for monochrome in (1, 2):
        write_dicom(tmp_path / f"{monochrome}", pixels, monochrome=monochrome, bits=bits)
    first, second = (read_radiograph(tmp_path / name, window).pixels for name in ("1", "2"))
    np.testing.assert_allclose(standard(first), standard(pixels), atol=1e-6)
    np.testing.assert_allclose(standard(first), standard(second), atol=1e-6)


def test_without_a_window_values_are_those_of_training(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", stored(), monochrome=1, WindowCenter=900, WindowWidth=9)
    read = read_radiograph(path, "none").pixels
    expected = read_image(path).pixels
    assert read.dtype == expected.dtype
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("monochrome", [1, 2])
def test_a_window_clips_as_a_viewer_does(tmp_path: Path, monochrome: int) -> None:
    pixels = np.tile(np.arange(0, 4096, 16, dtype=np.uint16), (4, 1))
    center = 2048 if monochrome == 2 else 4095 - 2048
    path = write_dicom(
        tmp_path / "a", pixels, monochrome=monochrome, WindowCenter=center, WindowWidth=1024
    )
    shown = read_radiograph(path, "header").pixels
    low, high = shown.min(), shown.max()
    expected = np.clip((pixels.astype(float) - (2048 - 512)) / 1024, 0, 1) * (high - low) + low
    np.testing.assert_allclose(shown, expected, atol=0.01 * (high - low))


def test_a_wide_window_changes_nothing_for_the_model(tmp_path: Path) -> None:
    pixels = stored()
    path = write_dicom(tmp_path / "a", pixels, WindowCenter=2048, WindowWidth=8192)
    shown = read_radiograph(path, "header").pixels
    np.testing.assert_allclose(standard(shown), standard(pixels), atol=1e-4)


def test_rescale_and_voi_lut_sequence(tmp_path: Path) -> None:
    pixels = stored((8, 8), bits=8)
    lut = pydicom.Dataset()
    lut.LUTDescriptor = [256, 0, 16]
    table = (np.arange(256, dtype=np.uint16) // 128) * 40000  # a step
    lut.LUTData = table.tobytes()
    path = write_dicom(tmp_path / "a", pixels, bits=8, VOILUTSequence=[lut])
    shown = read_radiograph(path, "header").pixels
    np.testing.assert_array_equal(shown > 20000, pixels >= 128)
    path = write_dicom(
        tmp_path / "b",
        pixels,
        bits=8,
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=156,
        WindowWidth=512,
    )
    shown = read_radiograph(path, "header").pixels
    np.testing.assert_allclose(standard(shown), standard(pixels), atol=0.02)


def test_padding_becomes_black(tmp_path: Path) -> None:
    pixels = stored() // 2 + 500
    pixels[:, :5] = 4095
    path = write_dicom(tmp_path / "a", pixels, PixelPaddingValue=4095)
    shown = read_radiograph(path, "header").pixels
    assert (shown[:, :5] == shown[:, 5:].min()).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("monochrome", [1, 2])
def test_compressed_images(tmp_path: Path, syntax: str, monochrome: int) -> None:
    plain = write_dicom(
        tmp_path / "a", stored(), monochrome=monochrome, WindowCenter=2000, WindowWidth=1000
    )
    dataset = pydicom.dcmread(plain)
    dataset.compress(syntax)
    dataset.save_as(tmp_path / "b")
    np.testing.assert_array_equal(
        read_radiograph(plain).pixels, read_radiograph(tmp_path / "b").pixels
    )


@pytest.mark.parametrize("monochrome", [1, 2])
def test_what_pydicom_cannot_decode_gdcm_does(
    tmp_path: Path, monochrome: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(
        tmp_path / "a",
        stored(),
        monochrome=monochrome,
        RescaleSlope=2,
        RescaleIntercept=7,
        WindowCenter=3000,
        WindowWidth=2000,
    )
    expected = read_radiograph(path).pixels

    def refuse(self: object) -> None:
        raise RuntimeError("no decoder")

    monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(refuse))
    np.testing.assert_allclose(read_radiograph(path).pixels, expected, atol=1e-3)


def test_spacing_comes_from_the_first_tag_that_has_it(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", stored(), spacing=(0.2, 0.3), PixelSpacing=[0.1, 0.15])
    read = read_radiograph(path)
    assert read.spacing == (0.1, 0.15)
    assert read.aspect == pytest.approx(2 / 3)
    assert not read.notes
    read = read_radiograph(write_dicom(tmp_path / "b", stored(), spacing=(0.2, 0.2)))
    assert read.spacing == (0.2, 0.2) and read.aspect == 1.0
    assert "ImagerPixelSpacing" in read.notes[0]
    path = write_dicom(tmp_path / "c", stored(), spacing=None, PixelAspectRatio=[2, 1])
    read = read_radiograph(path)
    assert read.spacing is None and read.aspect == 2.0


def test_a_header_that_names_something_else_is_noted_without_quoting(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", stored(), BodyPartExamined="FOOT", ViewPosition="LL")
    notes = " ".join(read_radiograph(path).notes)
    assert "body part" in notes and "PA or AP" in notes
    assert "FOOT" not in notes


def test_files_are_known_by_ending_or_magic(tmp_path: Path) -> None:
    write_dicom(tmp_path / "1.2.840.113", stored())
    write_image(tmp_path / "a.png", stored())
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "DICOMDIR").write_bytes((tmp_path / "1.2.840.113").read_bytes())
    kinds = {path.name: kind_of(path) for path in tmp_path.iterdir()}
    assert kinds == {
        "1.2.840.113": "dicom",
        "a.png": "picture",
        "notes.txt": None,
        "DICOMDIR": None,
    }


def broken(folder: Path, name: str) -> Path:
    """A file that is no radiograph."""
    path = folder / name
    if name == "rgb.png":
        sitk.WriteImage(
            sitk.GetImageFromArray(RNG.integers(0, 9, (8, 8, 3)).astype(np.uint8), True), path
        )
    elif name == "nan.nii.gz":
        pixels = np.ones((8, 8), np.float32)
        pixels[0, 0] = np.nan
        write_image(path, pixels)
    elif name == "zero.nii":
        write_image(path, np.ones((8, 8), np.float32), (0.5, 0.5))
        content = bytearray(path.read_bytes())
        content[80:84] = np.float32(0).tobytes()  # pixdim[1]
        path.write_bytes(content)
    elif name == "zero.mha":
        head = "ObjectType = Image\nNDims = 2\nElementSpacing = 0 1\nDimSize = 2 2\n"
        path.write_bytes(
            (head + "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n").encode() + b"1234"
        )
    elif name == "text.dcm":
        path.write_text("no image at all")
    elif name == "truncated.dcm":
        content = write_dicom(path, stored()).read_bytes()
        path.write_bytes(content[:-200])
    elif name == "header_only.dcm":
        content = write_dicom(path, stored()).read_bytes()
        path.write_bytes(content[:300])
    elif name == "ct.dcm":
        write_dicom(path, stored(), Modality="CT")
    elif name == "us.dcm":
        write_dicom(path, stored(), Modality="US")
    elif name == "colour.dcm":
        write_dicom(
            path,
            stored((8, 12)),
            SamplesPerPixel=3,
            PhotometricInterpretation="RGB",
            Columns=4,
            PlanarConfiguration=0,
        )
    elif name == "palette.dcm":
        write_dicom(path, stored(), PhotometricInterpretation="PALETTE COLOR")
    elif name == "frames.dcm":
        write_dicom(path, stored((24, 8)), Rows=8, NumberOfFrames=3)
    elif name == "zero.dcm":
        write_dicom(path, stored(), spacing=(0.0, 0.2))
    elif name == "no_pixels.dcm":
        write_dicom(path, stored(), PixelData=None)
    return path


BROKEN = [
    ("rgb.png", "a colour image"),
    ("nan.nii.gz", "1 pixels are NaN"),
    ("zero.nii", "its spacing is 0 x"),
    ("zero.mha", "its spacing is 0"),
    ("text.dcm", "truncated or damaged"),
    ("truncated.dcm", "truncated"),
    ("header_only.dcm", "DICOM"),
    ("ct.dcm", "attnseg drr"),
    ("us.dcm", "modality US"),
    ("colour.dcm", "photometric interpretation RGB"),
    ("palette.dcm", "photometric interpretation PALETTE COLOR"),
    ("frames.dcm", "3 frames"),
    ("zero.dcm", "ImagerPixelSpacing is 0 x 0.2 mm"),
    ("no_pixels.dcm", "without an image"),
    ("missing.png", "no such file"),
]


@pytest.mark.parametrize(("name", "reason"), BROKEN)
def test_what_is_no_radiograph_is_refused_in_words(tmp_path: Path, name: str, reason: str) -> None:
    path = broken(tmp_path, name)
    with pytest.raises(DataError, match=reason) as caught:
        read_radiograph(path)
    assert str(path) in str(caught.value)
    assert PATIENT.split("^")[0] not in str(caught.value)
