from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from attnseg.common.errors import ConfigError, DataError
from attnseg.imaging.annotations import Annotations, Ball, Contour, Contours, Disc, Nodule, Voxels
from attnseg.imaging.annotations.combine import votes_needed
from attnseg.imaging.annotations.grid import Grid, read_grid
from attnseg.imaging.annotations.volume import annotations_to_volume, label_nodules, write_volume
from tests.conftest import restore_locale
from tests.imaging.annotations.formats import ring

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID = Grid((40, 30, 12), (0.7, 0.7, 2.5), (-10.0, 5.0, -100.0), IDENTITY)


def _z(index: int, grid: Grid = GRID) -> float:
    return grid.origin[2] + 2.5 * index


def _outlined(points: Any, slices: list[int], reader: str | None = None, **more: Any) -> Nodule:
    contours = tuple(Contour(tuple(points), _z(k), **more) for k in slices)
    return Nodule("n", Contours(contours), reader)


def _fill(
    *nodules: Nodule,
    grid: Grid = GRID,
    readers: Any = "union",
    who: tuple[str, ...] = (),
    **more: Any,
) -> np.ndarray:
    annotations = Annotations(nodules, who, **more)
    return annotations_to_volume(annotations, grid, readers=readers, name="x.xml")


def test_outlines_are_outside_and_lie_in_their_slices() -> None:
    made = _fill(_outlined(ring(5, 6, 12, 14), [3, 4]))
    assert made.shape == (12, 30, 40)
    assert made.dtype == np.uint8
    wanted = np.zeros_like(made)
    wanted[3:5, 7:14, 6:12] = 1
    np.testing.assert_array_equal(made, wanted)


def test_a_hole_takes_its_outline_with_it_whatever_the_order() -> None:
    around = Contour(tuple(ring(5, 5, 15, 15)), _z(2))
    hole = Contour(tuple(ring(8, 8, 11, 11)), _z(2), inclusion=False)
    for order in ((around, hole), (hole, around)):
        made = _fill(Nodule("n", Contours(order)))
        assert made.sum() == 9 * 9 - 4 * 4
        assert not made[2, 8:12, 8:12].any()


def test_a_nodule_that_encloses_nothing_does_not_vanish() -> None:
    made = _fill(_outlined([(5, 5), (6, 6), (7, 6)], [1]))
    assert made.sum() == 3
    assert made[1, 5, 5]


def test_slices_are_found_by_uid_before_position() -> None:
    uids = tuple(f"1.{k}" for k in range(12))
    grid = replace(GRID, sop_uids=uids)
    made = _fill(_outlined(ring(5, 5, 9, 9), [3], sop_uid="1.7"), grid=grid)
    assert np.flatnonzero(made.any(axis=(1, 2))).tolist() == [7]
    with pytest.raises(DataError, match=r"the slice at -92.5 mm \(9.9\) is not in the CT"):
        _fill(_outlined(ring(5, 5, 9, 9), [3], sop_uid="9.9"), grid=grid)


@pytest.mark.parametrize("flip", [(1, 1, -1), (-1, 1, 1), (1, -1, 1), (-1, -1, -1)])
def test_a_flipped_file_gets_the_same_voxels_of_the_patient(flip: tuple[int, int, int]) -> None:
    """A CT stored with an axis turned round: the mask must land on the same millimetres."""
    nodules = (
        _outlined(ring(5, 6, 12, 14), [3, 4]),
        Nodule("b", Ball((20.0, 22.0, _z(8)), 6.0, in_pixels=True)),
        Nodule("c", Ball((-2.0, 12.0, -85.0), 5.0)),
    )
    plain = _fill(*nodules)
    origin = tuple(
        start if sign > 0 else start + (size - 1) * step
        for start, sign, size, step in zip(GRID.origin, flip, GRID.size, GRID.spacing, strict=True)
    )
    direction = tuple(np.diag(flip).astype(float).ravel())
    turned = _fill(*nodules, grid=replace(GRID, origin=origin, direction=direction))
    np.testing.assert_array_equal(turned[:: flip[2], :: flip[1], :: flip[0]], plain)
    assert plain.any(axis=(1, 2)).sum() > 5


def test_outlines_need_the_scanner_s_own_slices() -> None:
    sagittal = replace(GRID, direction=(0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    with pytest.raises(DataError, match="axes are turned"):
        _fill(_outlined(ring(5, 5, 9, 9), [3]), grid=sagittal)
    assert _fill(Nodule("b", Ball((-85.0, 0.0, -85.0), 5.0)), grid=_around(sagittal)).any()


def _around(grid: Grid) -> Grid:
    """The same turned grid, placed so that the ball's centre is in it."""
    centre = grid.matrix @ (np.array(grid.size) / 2.0)
    return replace(grid, origin=tuple(np.array([-85.0, 0.0, -85.0]) - centre))


@given(
    st.floats(2.0, 8.0),
    st.tuples(st.floats(6.0, 10.0), st.floats(14.0, 16.0), st.floats(-90.0, -80.0)),
)
def test_a_ball_is_the_voxels_within_its_radius(
    diameter: float, centre: tuple[float, float, float]
) -> None:
    made = _fill(Nodule("b", Ball(centre, diameter)))
    z, y, x = np.indices(made.shape)
    millimetres = [
        np.array(GRID.origin[i]) + GRID.spacing[i] * axis for i, axis in enumerate((x, y, z))
    ]
    distance = np.sqrt(sum((millimetres[i] - centre[i]) ** 2 for i in range(3)))
    wanted = distance <= diameter / 2.0
    on_it = np.abs(distance - diameter / 2.0) < 1e-5
    nearest = [round((centre[i] - GRID.origin[i]) / GRID.spacing[i]) for i in (2, 1, 0)]
    assert made[tuple(nearest)] == 1
    wanted[tuple(nearest)] = True
    assert not ((made.astype(bool) != wanted) & ~on_it).any()


def test_a_point_is_one_voxel() -> None:
    made = _fill(Nodule("p", Ball((7.0, 9.0, _z(2)), 0.0, in_pixels=True)))
    assert made.sum() == made[2, 9, 7] == 1


def test_readers_are_combined_voxel_by_voxel() -> None:
    marks = [_outlined(ring(5 + i, 5, 15, 15), [3], str(i + 1)) for i in range(3)]
    readers = ("1", "2", "3", "4")  # the fourth marked nothing, and counts
    sizes = {
        rule: int(_fill(*marks, readers=rule, who=readers).sum())
        for rule in ("union", 1, 2, 3, "majority", "all", 4)
    }
    assert sizes == {"union": 81, 1: 81, 2: 72, 3: 63, "majority": 63, "all": 0, 4: 0}
    twice = [marks[0], replace(marks[0], nodule_id="again")]  # one reader is one vote
    made = _fill(*twice, readers=2, who=readers)
    assert not made.any()


def test_an_unknown_or_unreachable_consensus_level() -> None:
    assert [votes_needed(rule, 4) for rule in ("union", "majority", "all", 2, "2")] == [
        1,
        3,
        4,
        2,
        2,
    ]
    for rule in ("most", 0, -1, "0.5"):
        with pytest.raises(ConfigError, match="no such consensus level; use union"):
            votes_needed(rule, 4)
    with pytest.raises(ConfigError, match="has 2 readers; no voxel could reach"):
        votes_needed(3, 2)
    with pytest.raises(DataError, match="does not say which reader made which mark"):
        _fill(_outlined(ring(5, 5, 9, 9), [3]), readers=2)


def test_every_mark_outside_the_ct_is_named_at_once() -> None:
    with pytest.raises(DataError) as caught:
        _fill(
            _outlined(ring(5, 5, 9, 9), [12], "1"),
            _outlined(ring(35, 5, 41, 9), [3], "1"),
            Nodule("b", Ball((500.0, 0.0, 0.0), 5.0), "1"),
            Nodule("d", Disc((3.0, 3.0), 5.0), "1"),
            Nodule("v", Voxels(np.ones((2, 2, 2), dtype=bool), (11, 0, 0)), "1"),
            who=("1",),
        )
    text = str(caught.value)
    for wanted in (
        "reader 1, nodule n: a slice at -70 mm, but the CT reaches from -100 to -72.5 mm",
        "a point at (41, 9) px, but a slice has 40 x 30",
        "nodule b: its centre (500, 0, 0 mm) is outside the CT",
        "nodule d: is a disc on a radiograph",
        "nodule v: reaches out of the CT",
    ):
        assert wanted in text


def test_annotations_of_another_series_are_refused() -> None:
    grid = replace(GRID, series_uid="1.5")
    with pytest.raises(DataError, match=r"series 1.4, but the CT is the series 1.5"):
        _fill(_outlined(ring(5, 5, 9, 9), [3]), grid=grid, series_uid="1.4")


def test_nodules_are_numbered_and_written_on_the_grid(tmp_path: Path) -> None:
    made = _fill(_outlined(ring(5, 5, 9, 9), [3]), _outlined(ring(20, 5, 24, 9), [3]))
    labels = label_nodules(made)
    assert sorted(np.unique(labels).tolist()) == [0, 1, 2]
    path = tmp_path / "sub" / "m.nii.gz"
    write_volume(path, labels, GRID)
    assert [p.name for p in path.parent.iterdir()] == ["m.nii.gz"]
    back = read_grid(path)
    assert back.size == GRID.size
    np.testing.assert_allclose(back.origin, GRID.origin, atol=1e-4)
    np.testing.assert_allclose(back.spacing, GRID.spacing, atol=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), labels)


def test_a_folder_of_dicom_slices_has_uids(tmp_path: Path) -> None:
    folder = dicom_series(tmp_path / "ct", n=4)
    grid = read_grid(folder)
    assert grid.size == (16, 12, 4)
    assert grid.sop_uids == ("1.2.0", "1.2.1", "1.2.2", "1.2.3")
    assert grid.series_uid == "1.2.99"
    assert grid.spacing == (0.5, 0.5, 2.0)
    assert grid.origin == (-4.0, -3.0, -20.0)
    with pytest.raises(DataError, match="no DICOM series"):
        read_grid(tmp_path)
    gap = dicom_series(tmp_path / "gap", n=6)
    sorted(gap.iterdir())[2].unlink()
    with pytest.raises(DataError, match="its slices are 2 to 4 mm apart; some are missing"):
        read_grid(gap)
    dicom_series(tmp_path / "ct", n=2, series="1.2.98")
    with pytest.raises(DataError, match="2 DICOM series"):
        read_grid(folder)


def test_what_is_no_ct(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_grid(tmp_path / "none.nii")
    (tmp_path / "a.nii").write_text("no image")
    with pytest.raises(DataError, match="cannot be decoded"):
        read_grid(tmp_path / "a.nii")
    sitk.WriteImage(sitk.Image(4, 4, sitk.sitkUInt8), str(tmp_path / "flat.mha"))
    with pytest.raises(DataError, match="4 x 4 voxels, but a CT has three axes"):
        read_grid(tmp_path / "flat.mha")


def dicom_series(folder: Path, n: int, series: str = "1.2.99") -> Path:
    """A CT as a scanner stores it, a file a slice, written highest slice first."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in reversed(range(n)):
        image = sitk.GetImageFromArray(np.full((1, 12, 16), k, np.int16))
        image.SetSpacing((0.5, 0.5, 2.0))
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        for key, value in {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.{k}" if series == "1.2.99" else f"1.3.{k}",
            "0020|000e": series,
            "0020|000d": "1.2.100",
            "0020|0032": f"-4\\-3\\{-20 + 2 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(k + 1),
        }.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{series}-{n - k:03d}.dcm"))
        writer.Execute(image)
    restore_locale()
    return folder
