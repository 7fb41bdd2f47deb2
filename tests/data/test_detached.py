"""Which files an image's header sends its reader to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from attnseg.data.detached import data_files


def _named(path: Path) -> list[str]:
    return [str(found.relative_to(path.parent)) for found in data_files(path, path.stat().st_size)]


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("a.mhd", ["a.raw"]),
        ("a.mha", []),
        ("a.nhdr", ["a.raw"]),
        ("a.nrrd", []),
        ("a.hdr", ["a.img"]),
        ("a.img", ["a.hdr"]),
        ("a.png", []),
        ("a.nii.gz", []),
    ],
)
def test_what_itk_writes(tmp_path: Path, name: str, others: list[str]) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((4, 5), np.uint8)), str(tmp_path / name))
    assert _named(tmp_path / name) == others


@pytest.mark.parametrize(
    ("name", "header", "others"),
    [
        ("a.mha", "ObjectType = Image\nElementDataFile = sub/x.raw\n", ["sub/x.raw"]),
        ("a.mhd", "ElementDataFile = LIST 2\none.raw\ntwo.raw\n", ["one.raw", "two.raw"]),
        ("a.mhd", "ElementDataFile = s%02d.raw 1 3 2\n", ["s01.raw", "s03.raw"]),
        ("a.mhd", "ElementDataFile = s%q.raw 1 3 2\n", []),
        ("a.nrrd", "NRRD0004\ndata file: x y.raw\n", ["x y.raw"]),
        ("a.nrrd", "NRRD0004\ntype: int\n\ndata file: pixels.raw\n", []),
        ("a.img", "a file without a header beside it", []),
    ],
)
def test_headers_of_other_programs(
    tmp_path: Path, name: str, header: str, others: list[str]
) -> None:
    (tmp_path / name).write_text(header)
    assert _named(tmp_path / name) == others
