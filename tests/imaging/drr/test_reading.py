"""Every format and orientation gives the same volume; what is wrong is refused in words."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from attnseg.common.errors import DataError
from attnseg.config.drr import MasksConfig
from attnseg.imaging.drr.reading import read_ct, read_nodules
from attnseg.imaging.drr.views import project_view
from tests.imaging.drr.helpers import chest, image, projection, write, write_series

HU, MASK = chest()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd", "dicom"])
def test_every_format_gives_the_same_volume(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "dicom":
        write_series(path, HU)
    else:
        write(path, HU)
    ct = read_ct(path)
    assert ct.voxels.dtype == np.int16
    np.testing.assert_array_equal(ct.voxels, HU)
    assert ct.spacing == pytest.approx((2.0, 0.8, 0.8))
    np.testing.assert_allclose(ct.to_world((0, 0, 0)), (-10.0, 20.0, -300.0), atol=1e-5)
    np.testing.assert_allclose(ct.to_world((3, 2, 1)), (-9.2, 21.6, -294.0), atol=1e-5)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAI", "SPL", "PSR", "ASL"])
def test_whatever_way_the_axes_run_the_drr_is_the_same(tmp_path: Path, orientation: str) -> None:
    ct, mask = (sitk.DICOMOrient(image(part), orientation) for part in (HU, MASK))
    sitk.WriteImage(ct, str(tmp_path / "ct.nii.gz"))
    sitk.WriteImage(mask, str(tmp_path / "mask.nrrd"))
    read = read_ct(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(read.voxels, HU)
    nodules = read_nodules(tmp_path / "mask.nrrd", read, MasksConfig())
    for name in ("lidc_drr", "cone_beam"):
        config = projection(name)
        result = project_view(read, nodules, config, config.views[0])
        plain = read_ct(write(tmp_path / "plain.nii.gz", HU))
        expected = project_view(plain, None, config, config.views[0])
        np.testing.assert_allclose(result.image, expected.image, atol=2e-3)
        assert result.nodules is not None
        assert set(np.unique(result.nodules.labels)) == {0, 1, 2}


def test_a_mask_in_another_orientation_is_on_the_same_grid(tmp_path: Path) -> None:
    ct = read_ct(write(tmp_path / "ct.mha", HU))
    sitk.WriteImage(sitk.DICOMOrient(image(MASK), "RAI"), str(tmp_path / "mask.mha"))
    nodules = read_nodules(tmp_path / "mask.mha", ct, MasksConfig())
    np.testing.assert_array_equal(nodules.voxels > 0, MASK > 0)


def test_nifti_with_a_slope_is_not_taken_for_truncated(tmp_path: Path) -> None:
    raw = bytearray(write(tmp_path / "a.nii", HU).read_bytes())
    raw[112:120] = struct.pack("<2f", 1.0, -24.0)
    (tmp_path / "a.nii").write_bytes(raw)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw))
    for name in ("a.nii", "a.nii.gz"):
        np.testing.assert_array_equal(read_ct(tmp_path / name).voxels, HU - 24)


def test_readers_are_counted_and_values_can_be_nodules(tmp_path: Path) -> None:
    ct = read_ct(write(tmp_path / "ct.nii", HU))
    counts = MASK.copy()
    counts[counts > 0] = 1
    counts[10, 12, 7] = 3
    path = write(tmp_path / "mask.nii", counts)
    consensus = read_nodules(path, ct, MasksConfig(at_least=2))
    assert (consensus.voxels > 0).sum() == 1
    values = read_nodules(path, ct, MasksConfig(nodules="values"))
    assert set(np.unique(values.voxels)) == {0, 1, 3}
    floats = write(tmp_path / "float.nii", MASK.astype(np.float32))
    np.testing.assert_array_equal(read_nodules(floats, ct, MasksConfig()).voxels > 0, MASK > 0)


def test_a_mask_of_another_grid_can_be_resampled(tmp_path: Path) -> None:
    ct = read_ct(write(tmp_path / "ct.nii", HU))
    cropped = sitk.RegionOfInterest(image(MASK), [20, 20, 14], [4, 2, 4])
    sitk.WriteImage(cropped, str(tmp_path / "mask.nii"))
    with pytest.raises(DataError, match=r"masks\.other_grid=resample"):
        read_nodules(tmp_path / "mask.nii", ct, MasksConfig())
    moved = read_nodules(tmp_path / "mask.nii", ct, MasksConfig(other_grid="resample"))
    np.testing.assert_array_equal(moved.voxels > 0, MASK > 0)
    write(tmp_path / "far.nii", MASK, origin=(900.0, 0.0, 0.0))
    with pytest.raises(DataError, match="outside the CT"):
        read_nodules(tmp_path / "far.nii", ct, MasksConfig(other_grid="resample"))


def test_of_several_series_one_can_be_named(tmp_path: Path) -> None:
    write_series(tmp_path, HU, uid="1.2.3")
    write_series(tmp_path, HU[:4] + 5, uid="1.2.4")
    np.testing.assert_array_equal(read_ct(tmp_path, "largest").voxels, HU)
    np.testing.assert_array_equal(read_ct(tmp_path, "1.2.4").voxels, HU[:4] + 5)


# What is wrong with a CT, and words that the message has.


def _truncated(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(folder / name, HU)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        return path

    return make


def _changed_header(name: str, at: int, value: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(folder / name, HU)
        raw = bytearray(path.read_bytes())
        raw[at : at + len(value)] = value
        path.write_bytes(raw)
        return path

    return make


def _meta_spacing(value: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = write(folder / "a.mha", HU)
        head, tail = path.read_bytes().split(b"ElementSpacing = ", 1)
        path.write_bytes(head + b"ElementSpacing = " + value + b"\n" + tail.split(b"\n", 1)[1])
        return path

    return make


def _with_nan(folder: Path) -> Path:
    hu = HU.astype(np.float32)
    hu[3, 4, 5], hu[1, 1, 1] = np.nan, np.inf
    return write(folder / "a.nii.gz", hu)


def _colour(folder: Path) -> Path:
    rgb = sitk.GetImageFromArray(np.zeros((5, 6, 7, 3), np.uint8), isVector=True)
    sitk.WriteImage(rgb, str(folder / "a.mha"))
    return folder / "a.mha"


def _in_time(folder: Path) -> Path:
    sitk.WriteImage(sitk.JoinSeries([image(HU), image(HU)]), str(folder / "a.nii.gz"))
    return folder / "a.nii.gz"


def _garbage(folder: Path) -> Path:
    (folder / "a.nii.gz").write_bytes(b"no volume at all " * 99)
    return folder / "a.nii.gz"


def _short_raw(folder: Path) -> Path:
    write(folder / "a.mhd", HU)
    (folder / "a.raw").write_bytes(b"\0" * 100)
    return folder / "a.mhd"


def _broken_slice(number: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_series(folder, HU)
        (path,) = folder.glob(f"*_{number}.dcm")
        path.write_bytes(path.read_bytes()[:900])
        return folder

    return make


def _two_series(folder: Path) -> Path:
    write_series(folder, HU)
    return write_series(folder, HU[:3], uid="1.2.4")


def _two_sizes(folder: Path) -> Path:
    write_series(folder, HU, skip=(4,))
    return write_series(folder, HU[:, :10], skip=[n for n in range(20) if n != 4])


def _twice(folder: Path) -> Path:
    write_series(folder, HU)
    for path in list(folder.glob("*_7.dcm")):
        raw = path.read_bytes().replace(b"1.2.3.8", b"1.2.3.9", 1)
        (folder / "again.dcm").write_bytes(raw)
    return folder


def _zero_pixel_spacing(folder: Path) -> Path:
    write_series(folder, HU)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b".8\\.8 ", b".0\\.0 "))
    return folder


def _without_orientation(folder: Path) -> Path:
    write_series(folder, HU)
    for path in folder.iterdir():
        path.write_bytes(
            path.read_bytes().replace(b"\x20\x00\x37\x00\x0c", b"\x20\x00\x39\x00\x0c")
        )
    return folder


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing file": (lambda f: f / "no.nii.gz", "no such file"),
    "garbage": (_garbage, "cannot be decoded"),
    "truncated nii": (_truncated("a.nii"), "truncated"),
    "truncated nii.gz": (_truncated("a.nii.gz"), "truncated"),
    "truncated mha": (_truncated("a.mha"), "truncated"),
    "truncated nrrd": (_truncated("a.nrrd"), "truncated"),
    "mhd without its voxels": (_short_raw, "truncated"),
    "zero spacing, NIfTI": (_changed_header("a.nii", 80, struct.pack("<f", 0)), "above 0"),
    "negative spacing, NIfTI": (_changed_header("a.nii", 88, struct.pack("<f", -2)), "above 0"),
    "NaN spacing, NIfTI": (_changed_header("a.nii", 84, struct.pack("<f", np.nan)), "above 0"),
    "zero spacing, MHA": (_meta_spacing(b"0 0.8 2"), "above 0"),
    "negative spacing, MHA": (_meta_spacing(b"0.8 -0.8 2"), "above 0"),
    "NaN and infinite voxels": (_with_nan, "2 voxels are NaN or infinite"),
    "colour": (_colour, "3 values a voxel"),
    "2-D image": (lambda f: write(f / "a.nii", HU[0]), "2-D image"),
    "2-D picture": (lambda f: write(f / "a.png", HU[0].astype(np.uint8)), "2-D image"),
    "one slice": (lambda f: write(f / "a.nii", HU[:1]), "single slice"),
    "a series in time": (_in_time, "4 axes"),
    "constant": (lambda f: write(f / "a.nii", np.full((4, 5, 6), -1000, np.int16)), "every voxel"),
    "no HU": (lambda f: write(f / "a.nii", (HU // 8 + 128).astype(np.uint8)), "no HU"),
    "empty folder": (lambda f: f, "holds no DICOM series"),
    "missing slices": (lambda f: write_series(f, HU, skip=(7, 8)), "slices are missing: 6.00 mm"),
    "truncated slice": (_broken_slice(9), "cannot be read as DICOM"),
    "truncated last slice": (_broken_slice(19), "cannot be read as DICOM"),
    "mixed series": (_two_series, "several series"),
    "slices of two sizes": (_two_sizes, "differ in size"),
    "a slice twice": (_twice, "where another does"),
    "tilted gantry": (lambda f: write_series(f, HU, shift_y=0.3), "gantry is tilted by 8.5"),
    "another modality": (lambda f: write_series(f, HU, tags={"0008|0060": "MR"}), "MR, not CT"),
    "zero spacing, DICOM": (_zero_pixel_spacing, "Pixel Spacing is .0"),
    "nowhere": (_without_orientation, "do not say where"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_ct_is_refused_in_words(tmp_path: Path, what: str) -> None:
    make, words = BROKEN[what]
    path = make(tmp_path)
    with pytest.raises(DataError) as error:
        read_ct(path)
    message = str(error.value)
    assert words in message
    assert str(path) in message
    assert "itk" not in message.lower()


def test_a_missing_series_lists_those_that_are_there(tmp_path: Path) -> None:
    write_series(tmp_path, HU)
    with pytest.raises(DataError, match=r"series=9\.9 is not here, but 1\.2\.3 \(20 files\)"):
        read_ct(tmp_path, "9.9")


def test_what_is_no_hu_can_be_let_through(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", (HU // 8 + 128).astype(np.uint8))
    assert read_ct(path, check_hu=False).voxels.dtype == np.int16


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", HU)
    path.chmod(0)
    try:
        path.open("rb").close()
    except PermissionError:
        with pytest.raises(DataError, match="cannot be opened"):
            read_ct(path)


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (MASK * 0.5, "whole numbers"),
        (np.where(MASK > 0, np.nan, 0.0), "NaN"),
        (HU, "is it the CT"),
        (MASK[:, :-1], "is not the CT's"),
        (MASK[:1], "single slice"),
    ],
)
def test_a_broken_mask_is_refused_in_words(tmp_path: Path, voxels: np.ndarray, words: str) -> None:
    ct = read_ct(write(tmp_path / "ct.nii", HU))
    with pytest.raises(DataError, match=words):
        read_nodules(write(tmp_path / "mask.nii", voxels), ct, MasksConfig())


def test_spacing_and_place_of_a_mask_count(tmp_path: Path) -> None:
    ct = read_ct(write(tmp_path / "ct.nii", HU))
    for number, where in enumerate(
        ({"spacing": (0.8, 0.8, 2.1)}, {"origin": (-9.0, 20.0, -300.0)})
    ):
        path = write(tmp_path / f"{number}.nii", MASK, **where)
        with pytest.raises(DataError, match="is not the CT's"):
            read_nodules(path, ct, MasksConfig())
    for shift in product((-0.001, 0.001), repeat=3):  # rounding is forgiven
        origin = tuple(np.array((-10.0, 20.0, -300.0)) + shift)
        path = write(tmp_path / "near.nii", MASK, origin=origin)
        assert read_nodules(path, ct, MasksConfig()).voxels.any()
