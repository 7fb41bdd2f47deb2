"""The shared LIDC-IDRI data: annotations against masks, and the CT's own readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from attnseg.common.tables import read_table
from attnseg.imaging.annotations import Ball, Nodule
from attnseg.imaging.annotations.grid import read_grid
from attnseg.imaging.annotations.lidc_table import read_lidc_table
from attnseg.imaging.annotations.mask_volume import read_mask_volume
from attnseg.imaging.annotations.volume import annotations_to_volume
from attnseg.imaging.images import read_mask


@pytest.fixture(scope="module")
def ct_folder(lidc_root: Path) -> Path:
    folder = lidc_root.parent.parent / "lidc_ct"
    if not folder.is_dir():
        pytest.skip(f"the shared CT is not here ({folder})")
    return folder


@pytest.mark.shared_data
def test_annotations_lie_over_the_masks_columns(lidc_root: Path) -> None:
    """x_px is the DRR's column (it is as wide as the slice): all 3151 marks of 436 DRRs are in.

    The row cannot be checked: it follows from z_mm and the volume's origin, which was not
    published.
    """
    table = read_lidc_table(lidc_root.parent / "annotations.csv")
    offsets, covered, mirrored, swapped = [], [], [], []
    for _, scan in read_table(lidc_root.parent / "scans.csv", ("drr_file", "scan_id", "drr_w")):
        name = scan["drr_file"].replace("_drr.png", "_drr_mask.png")
        mask = read_mask(next(lidc_root.rglob(name))).pixels
        columns = np.flatnonzero(mask.any(axis=0))
        nodules: tuple[Nodule, ...] = ()
        if scan["scan_id"] in table:
            nodules = table[scan["scan_id"]].nodules
        assert scan["drr_w"] == "512"
        assert bool(nodules) == bool(len(columns))  # a mask where there is a mark, and only there
        for nodule in nodules:
            assert isinstance(nodule.shape, Ball)
            x, y, _ = nodule.shape.centre
            offsets.append(np.abs(columns - x).min())
            mirrored.append(np.abs(columns - (511 - x)).min())
            swapped.append(np.abs(columns - y).min())
            half = nodule.shape.diameter_mm / 2 / float(scan["pixel_spacing_mm"])
            inside = (columns >= x - half) & (columns <= x + half)
            covered.append(inside.sum() / (2 * half + 1))
    assert len(offsets) == 3151
    assert max(offsets) <= 0.5  # every one within half a pixel of a column of the mask
    assert np.median(covered) > 0.6
    # It would not be so by chance: mirrored, or with x and y swapped, few are.
    assert np.mean(np.array(mirrored) <= 0.5) < 0.2
    assert np.mean(np.array(swapped) <= 0.5) < 0.2


@pytest.mark.shared_data
def test_balls_of_the_table_lie_in_the_ct_s_nodule(lidc_root: Path, ct_folder: Path) -> None:
    grid = read_grid(ct_folder / "LIDC-IDRI-0001_ct.nii.gz")
    annotations = read_lidc_table(lidc_root.parent / "annotations.csv")["12"]
    made = annotations_to_volume(annotations, grid, name="annotations.csv")
    votes = sitk.GetArrayFromImage(
        sitk.ReadImage(str(ct_folder / "LIDC-IDRI-0001_nodule_readers.nii.gz"))
    )
    union, ball = votes > 0, made > 0
    for nodule in annotations.nodules:
        assert isinstance(nodule.shape, Ball)
        x, y, z = nodule.shape.centre
        assert votes[round((z - grid.origin[2]) / 2.5), round(y), round(x)] == 4
    # The ball of the largest diameter reaches beyond the nodule, but holds nearly all of it.
    assert (union & ball).sum() / union.sum() > 0.9
    assert 2 * (union & ball).sum() / (union.sum() + ball.sum()) > 0.4


@pytest.mark.shared_data
def test_the_ct_s_reader_volume_is_read_by_votes(ct_folder: Path) -> None:
    grid = read_grid(ct_folder / "LIDC-IDRI-0001_ct.nii.gz")
    path = ct_folder / "LIDC-IDRI-0001_nodule_readers.nii.gz"
    votes = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    for level in (1, 2, 4):
        annotations = read_mask_volume(path, grid, at_least=level)
        made = annotations_to_volume(annotations, grid, name="votes")
        np.testing.assert_array_equal(made, votes >= level)
        assert len(annotations.nodules) == 1
