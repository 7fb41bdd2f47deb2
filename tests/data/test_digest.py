"""The digest of a data set: the same wherever it lies, another as soon as anything in it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnseg.common.errors import DataError
from attnseg.config import DataCommandConfig
from attnseg.config.compose import compose_checked
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.data.digest import Content, digest_of
from attnseg.imaging.images import write_image
from tests.conftest import with_data

Make = Callable[..., Any]
Change = Callable[[Path], object]


def content(*words: str) -> Content:
    """Of the training and validation cases of a data section."""
    config = compose_checked("data_command", ["data.size=64", *words], DataCommandConfig).data
    found = AttnSegDataModule(with_data(config), progress=False).content
    assert digest_of(config) == found.digest
    return found


def write_set(root: Path, count: int = 6) -> Path:
    """A manifest of as many patients: the last is tested on, the one before validates."""
    rng = np.random.default_rng(0)
    lines = ["case,patient,xray,drr,mask,spacing,split,reader"]
    for number in range(count):
        names = [f"images/{role}{number}.png" for role in ("xray", "drr", "mask")]
        for name in names:
            pixels = rng.integers(0, 255, (40, 64)).astype(np.uint8)
            write_image(root / name, pixels if "mask" not in name else (pixels > 200) * np.uint8(1))
        split = {count - 1: "test", count - 2: "val"}.get(number, "train")
        lines.append(f"c{number},p{number},{','.join(names)},0.5,{split},me")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


def of_set(root: Path, *words: str) -> Content:
    return content("data=manifest", f"data.root={root}", "data.split.kind=fixed", *words)


def _edit(root: Path, old: str, new: str) -> None:
    table = root / "manifest.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))


def _absolute(root: Path) -> None:
    _edit(root, "images/", f"{root}/images/")


def _by_links(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    (root / "images").rename(elsewhere)
    (root / "images").mkdir()
    for path in elsewhere.iterdir():
        (root / "images" / path.name).symlink_to(path)


def _pictures_elsewhere(root: Path) -> None:
    elsewhere = root.parent / "far" / "away"
    elsewhere.parent.mkdir()
    (root / "images").rename(elsewhere)
    _edit(root, "images/", f"{elsewhere}/")


def _touched(root: Path) -> None:
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))


def _black(name: str) -> Change:
    return lambda root: write_image(root / "images" / name, np.zeros((40, 64), np.uint8))


@pytest.mark.parametrize(
    "change",
    [
        _absolute,
        _by_links,
        _pictures_elsewhere,
        _touched,
        _black("xray5.png"),  # tested on
        lambda root: _edit(root, "mask5.png,0.5,test", "mask5.png,0.7,test"),
        lambda root: _edit(root, "c5,p5", "c9,p9"),
    ],
)
def test_what_changes_no_training_changes_no_digest(tmp_path: Path, change: Change) -> None:
    before = of_set(write_set(tmp_path / "set"))
    change(tmp_path / "set")
    assert of_set(tmp_path / "set").digest == before.digest


def test_a_set_that_moved_is_the_same_with_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = of_set(write_set(tmp_path / "set"))
    (tmp_path / "other").mkdir()
    shutil.move(tmp_path / "set", tmp_path / "other" / "place")
    (tmp_path / "link").symlink_to(tmp_path / "other" / "place")
    monkeypatch.chdir(tmp_path / "other" / "place")
    for root in (Path.cwd(), tmp_path / "link", Path(), Path("manifest.csv")):
        assert of_set(root, f"data.cache_dir={tmp_path / 'cache'}") == before
    assert "images/mask0.png" in before.files
    assert not [name for name in before.files if str(tmp_path) in name]


@pytest.mark.parametrize(
    "change",
    [
        _black("xray0.png"),
        _black("drr4.png"),
        _black("mask4.png"),
        lambda root: _edit(root, "mask0.png,0.5", "mask0.png,0.6"),
        lambda root: _edit(root, "mask0.png,0.5", "mask0.png,"),
        lambda root: _edit(root, "mask0.png", "mask1.png"),
        lambda root: _edit(root, "images/mask0.png", "none"),
        lambda root: _edit(root, "train,me\nc1", "train,you\nc1"),
        lambda root: _edit(root, "c0,p0", "c0,p1"),
        lambda root: _edit(root, "c0,p0", "c9,p0"),
        lambda root: _edit(root, "images/xray0.png,", ","),
        lambda root: _edit(root, "val", "train"),
        lambda root: _edit(root, "test", "val"),
        lambda root: _edit(root, "case,patient,xray,drr,mask", "case,patient,drr,xray,mask"),
    ],
)
def test_what_training_sees_changes_the_digest(tmp_path: Path, change: Change) -> None:
    before = of_set(write_set(tmp_path / "set"))
    change(tmp_path / "set")
    assert of_set(tmp_path / "set").digest != before.digest


def test_rows_in_another_order_are_other_data(tmp_path: Path) -> None:
    """The order of the cases is what an epoch permutes."""
    before = of_set(write_set(tmp_path / "set"))
    head, *rows = (tmp_path / "set" / "manifest.csv").read_text().splitlines()
    (tmp_path / "set" / "manifest.csv").write_text("\n".join([head, *rows[::-1]]))
    after = of_set(tmp_path / "set")
    assert after.digest != before.digest
    assert after.files == before.files


def test_a_headers_pixels_are_data(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    pixels = np.full((40, 64), 3, np.uint8)
    for name in ("a.mhd", "b.nhdr"):
        write_pair(root / "images" / name, pixels)
    _edit(root, "images/xray0.png", "images/a.mhd")
    _edit(root, "images/xray1.png", "images/b.nhdr")
    before = of_set(root)
    write_pair(root / "images" / "a.mhd", pixels + np.uint8(1))
    middle = of_set(root)
    write_pair(root / "images" / "b.nhdr", pixels + np.uint8(1))
    after = of_set(root)
    assert len({before.digest, middle.digest, after.digest}) == 3
    differs = {name for name in before.files if before.files[name] != after.files[name]}
    assert differs == {"images/a.mhd", "images/b.nhdr"}


def write_pair(path: Path, pixels: Any) -> None:
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(path))


def test_the_split_is_data(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    rows = [f"p{n},{'val' if n == 3 else 'train'}" for n in range(6)]
    splits = tmp_path / "splits.csv"
    splits.write_text("\n".join(["patient,split", *rows]))
    moved = tmp_path / "moved.csv"
    moved.write_text("\n".join(["patient,split", *rows[::-1]]))
    file = of_set(root, f"data.split.file={splits}")
    assert file.digest == of_set(root, f"data.split.file={moved}").digest
    splits.write_text(
        splits.read_text().replace("p3,val", "p3,train").replace("p2,train", "p2,val")
    )
    assert of_set(root, f"data.split.file={splits}").digest != file.digest
    fewer = of_set(root, "data.split.train_fraction=0.5")
    assert fewer.digest != of_set(root).digest
    assert [case.split for case in fewer.cases] == ["train", "train", "val"]


def test_spacings_in_scans_csv_and_the_xray_policy_are_data(lidc_folder: Make) -> None:
    words = ["data=lidc_drr", f"data.root={lidc_folder()}", "data.split.test_fraction=0.2"]
    before = content(*words)
    assert content(*words, "data.xray=simulated").digest != before.digest
    scans = lidc_folder().parent / "scans.csv"
    elsewhere = scans.rename(scans.parent.parent / "other.csv")
    assert content(*words, f"data.scans_csv={elsewhere}").digest == before.digest
    elsewhere.write_text(elsewhere.read_text().replace(",0.", ",0.1"))
    after = content(*words, f"data.scans_csv={elsewhere}")
    differs = [name for name in before.files if before.files[name] != after.files[name]]
    assert differs == [name for name in before.files if name.startswith("row of case")]


def test_marks_that_masks_are_drawn_from_are_data(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rows = ["height,img_name,label,width,x,y"]
    for number in range(4):
        write_image(tmp_path / "images" / f"n{number}.png", np.full((64, 64), number, np.uint8))
        rows.append(f"8,n{number}.png,1,9,10,11")
    table = tmp_path / "metadata.csv"
    table.write_text("\n".join(rows))
    words = ["data=node21", f"data.root={tmp_path}", "data.split.val_fraction=0.25"]
    before = content(*words)
    table.write_text("\n".join(rows).replace("1,9,10,11", "1,9,10,12"))
    assert content(*words).digest != before.digest
    assert content(*words, "data.mask=ellipse").digest != before.digest


def test_a_phantom_is_its_generator_and_what_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from attnseg.data.sources import phantom

    words = ("data=phantom", "data.n_cases=6")
    before = content(*words)
    assert before.digest == content(*words, "data.batch_size=3").digest
    assert before.files.keys() == {f"row of case phantom-0-{n:05d}" for n in range(6)}
    others = ("data.seed=1", "data.n_cases=7", "data.max_nodules=2", "data.size=96")
    assert before.digest not in [
        content("data=phantom", "data.n_cases=6", w).digest for w in others
    ]
    monkeypatch.setattr(phantom, "GENERATOR_VERSION", 3)
    assert content(*words).digest != before.digest


def test_everything_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    (root / "images" / "xray0.png").unlink()
    (root / "images" / "mask4.png").unlink()
    (root / "images" / "mask5.png").unlink()  # tested on: this digest does not ask for it
    with pytest.raises(DataError) as caught:
        of_set(root)
    found = caught.value.problems
    assert [Path(line.partition(":")[0]).name for line in found] == ["xray0.png", "mask4.png"]


def test_any_cases_have_a_content(memory_source: Make, tmp_path: Path) -> None:
    from tests.data.test_datamodule import _module

    source = memory_source(6)
    module = _module(source, tmp_path)
    some = module.content_of(source.cases()[:2])
    assert list(some.files) == ["row of case case0", "row of case case1"]
    assert [case.split for case in some.cases] == ["", ""]
    source.version = "2"
    assert module.content_of(source.cases()[:2]).digest != some.digest
