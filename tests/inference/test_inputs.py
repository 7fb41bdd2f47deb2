"""Which images there are, what they are called, and which DRR is whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.common.errors import ConfigError, DataError
from attnseg.inference.inputs import find_items, stem


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_folders_are_searched_and_what_is_no_image_is_not_taken(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/x.nii.gz", "a/notes.txt", ".hidden/c.png", "out/cases/o/mask.png")
    items = find_items(str(tmp_path), None, tmp_path / "out")
    assert [item.name for item in items] == ["x", "b"]


def test_results_in_the_images_own_folder_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "cases/b/mask.png", "more/c.png")
    items = find_items(str(tmp_path), None, tmp_path)
    assert [item.name for item in items] == ["b", "c"]


def test_files_globs_and_lists(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.png", "c.mha", "odd.name")
    out = tmp_path / "out"
    assert [i.name for i in find_items(f"{tmp_path}/*.png", None, out)] == ["a", "b"]
    both = [f"{tmp_path}/c.mha", f"{tmp_path}/*.png", f"{tmp_path}/a.png"]
    assert [i.name for i in find_items(both, None, out)] == ["c", "a", "b"]
    assert [i.name for i in find_items(f"{tmp_path}/odd.name", None, out)] == ["odd.name"]


def test_names_are_unique_and_fit_for_folders(tmp_path: Path) -> None:
    touch(tmp_path, "p/1/im.dcm", "p/2/im.dcm", "q/2/im.dcm", "a b(1).png", "A b(1).mha")
    names = [item.name for item in find_items(str(tmp_path), None, tmp_path / "out")]
    assert len({name.lower() for name in names}) == 5
    assert {"1__im", "2__im", "2__im-2"} <= set(names)
    assert all("/" not in name and " " not in name for name in names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii.gz", "a"), ("a.b.png", "a.b"), ("1.2.840", "1.2.840"), ("IM0001", "IM0001")],
)
def test_a_stem_is_the_name_without_an_images_ending(name: str, expected: str) -> None:
    assert stem(Path(name)) == expected


def test_drrs_are_paired_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "x/p1_xray.png", "x/p2-CXR.dcm", "x/p3.png", "d/p1_drr.nii.gz", "d/P2.png")
    items = find_items(f"{tmp_path}/x", f"{tmp_path}/d", tmp_path / "out")
    pairs = {item.name: item.drr and item.drr.name for item in items}
    assert pairs == {"p1_xray": "p1_drr.nii.gz", "p2-CXR": "P2.png", "p3": None}
    assert "no DRR of that name" in str(items[2].problem)


def test_one_image_and_one_drr_need_no_names_and_a_shared_folder_is_divided(tmp_path: Path) -> None:
    touch(tmp_path, "one.png", "other.png", "m/a_xray.png", "m/a_drr.png")
    [item] = find_items(f"{tmp_path}/one.png", f"{tmp_path}/other.png", tmp_path / "out")
    assert item.drr is not None
    [item] = find_items(f"{tmp_path}/m", f"{tmp_path}/m/*_drr.png", tmp_path / "out")
    assert item.name == "a_xray" and item.drr is not None


def test_two_drrs_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "x/b.png", "d/a_drr.png", "d/a.nii.gz")
    with pytest.raises(DataError, match="several DRRs have one name"):
        find_items(f"{tmp_path}/x", f"{tmp_path}/d", tmp_path / "out")


def test_nothing_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        find_items(f"{tmp_path}/no", None, tmp_path / "out")
    with pytest.raises(DataError, match="no image found"):
        find_items(str(tmp_path), None, tmp_path / "out")


def test_masks_beside_their_images_are_no_radiographs(tmp_path: Path) -> None:
    for name in (
        *("p0/p0_AP_drr.png", "p0/p0_AP_mask.png", "p0/p0_AP_labels.png", "p0/p0_AP_thickness.png"),
        *("contact_sheet.png", "a_drr.png", "a_drr_mask.png", "alone_mask.png"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    items = find_items(str(tmp_path), None, tmp_path / "out")
    assert [item.name for item in items] == ["a_drr", "alone_mask", "p0_AP_drr"]
    # Whoever names a file means it.
    named = find_items(str(tmp_path / "a_drr_mask.png"), None, tmp_path / "out")
    assert [item.name for item in named] == ["a_drr_mask"]
