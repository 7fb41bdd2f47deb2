from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from attnseg.commands.data_build import chosen_source
from attnseg.common.errors import ConfigError, DataError
from attnseg.config import DataBuildConfig, SplitConfig
from attnseg.config.compose import compose_checked
from attnseg.data.case_set import write
from attnseg.data.case_set.building import build_case_set
from attnseg.data.case_set.detect import detect_source
from attnseg.data.check import check_data
from attnseg.data.sources import build_source, unlabelled_cases
from attnseg.data.sources.manifest import ManifestSource
from attnseg.data.splits import make_splits, patient_overlap
from attnseg.imaging.images import read_image, write_image
from tests.conftest import data_section
from tests.imaging.annotations.formats import chestx_det, chestx_entry, jsrt, node21

Folder = Callable[..., Path]


def _build(source: Path, out: Path, *overrides: str) -> dict[str, Any]:
    words = chosen_source([f"source={source}", f"out={out}", *overrides])
    config = compose_checked("data_build", words, DataBuildConfig)
    return build_case_set(config, workers=0, progress=False)


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open() as stream:
        return list(csv.DictReader(stream))


def _read(out: Path) -> ManifestSource:
    return ManifestSource(root=str(out))


def _errors(out: Path) -> list[str]:
    config = data_section(name="manifest", root=str(out), size=64)
    found = check_data(config, workers=0, progress=False)
    return [finding.message for finding in found if finding.level == "error"]


def _everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_lidc_drr_becomes_a_set_that_stands_alone(lidc_folder: Folder, tmp_path: Path) -> None:
    root, out = lidc_folder(12), tmp_path / "set"
    card = _build(root, out, "images=copy", "license=CC BY 3.0", "title=Twelve")
    rows = _rows(out)
    assert len(rows) == 12
    first = rows[0]
    assert first["patient"] == "LIDC-IDRI-0001"
    assert (first["xray"], first["pairing"], first["mask_kind"]) == ("", "same", "exact")
    assert first["spacing"] == "0.5x0.5"
    assert rows[1]["mask"] == "none"  # the one without a nodule
    assert _errors(out) == []
    assert not any(path.is_symlink() for path in out.rglob("*"))
    # What the manifest's reader gets is what the original's reader gets.
    source = build_source(data_section(name="lidc_drr", root=str(root)))
    for old, new in zip(source.cases(), _read(out).cases(), strict=True):
        before, after = source.load(old), _read(out).load(new)
        np.testing.assert_array_equal(before.drr, after.drr)
        np.testing.assert_array_equal(before.xray, after.xray)
        np.testing.assert_array_equal(before.mask, after.mask)
        assert before.spacing == after.spacing
        assert old.patient_id == new.patient_id
    counts = card["counts"]
    assert (counts["cases"], counts["positive"], counts["lesions"]) == (12, 11, 11)
    assert card["license"] == "CC BY 3.0"
    assert card["title"] == "Twelve"


def test_splits_are_by_patient_and_both_ways_of_reading_them_agree(
    lidc_folder: Folder, tmp_path: Path
) -> None:
    root, out = lidc_folder(20), tmp_path / "set"
    card = _build(root, out, "data.split.seed=3")
    cases = _read(out).cases()
    by_column = make_splits(cases, SplitConfig(kind="fixed"))
    by_file = make_splits(cases, SplitConfig(kind="fixed", file=str(out / "splits.csv")))
    assert by_column == by_file
    assert patient_overlap(by_column) == []
    sizes = {name: len(by_column[name]) for name in ("train", "val", "test")}  # type: ignore[literal-required]
    assert sizes == {name: part["cases"] for name, part in card["splits"].items()}
    assert all(sizes.values())


def test_files_are_links_unless_copies_are_wanted(lidc_folder: Folder, tmp_path: Path) -> None:
    root, out = lidc_folder(6), tmp_path / "set"
    card = _build(root, out)
    links = [path for path in (out / "images").iterdir() if path.is_symlink()]
    assert len(links) == 6
    assert all(link.resolve().is_relative_to(root) for link in links)
    assert card["files_are"] == {"link": 11}


def test_jsrt_is_converted_to_16_bit_png_with_its_spacing(tmp_path: Path) -> None:
    root, out = jsrt(tmp_path / "jsrt"), tmp_path / "set"
    card = _build(root, out, "data.split.val_fraction=0", "data.split.test_fraction=0")
    first, second = _rows(out)
    assert first["xray"] == "images/JPCLN001_xray.png"
    assert (first["drr"], first["pairing"], first["mask_kind"]) == ("", "unpaired", "surrogate")
    assert first["spacing"] == "0.175x0.175"
    assert (first["mask"], second["mask"]) == ("masks/JPCLN001.png", "none")
    pixels = read_image(out / first["xray"]).pixels
    raw = np.fromfile(root / "All247images" / "JPCLN001.IMG", ">u2").reshape(2048, 2048)
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, 4095 - raw)
    assert card["files_are"] == {"converted": 3}
    assert card["mask_kind"] == {"surrogate": 2}
    assert card["lesions"]["by_diameter_mm"] == {
        "below 6": 0,
        "6 to 10": 0,
        "10 to 20": 1,
        "20 to 30": 0,
        "above 30": 0,
    }
    assert card["lesions"]["diameter_mm"]["median"] == pytest.approx(15.0, rel=0.01)


def test_node21_and_chestx_det(tmp_path: Path) -> None:
    card = _build(node21(tmp_path / "n"), tmp_path / "nset")
    assert card["counts"]["positive"] == 3
    assert card["files_are"] == {"converted": 3, "link": 6}  # masks drawn, images as they are
    assert _errors(tmp_path / "nset") == []
    entries = [chestx_entry(f"{i:08d}_000.png", ["Nodule"]) for i in range(1, 7)]
    root = chestx_det(tmp_path / "c", entries[:5], entries[5:])
    card = _build(root, tmp_path / "cset", "data.split.kind=fixed")
    assert [part["cases"] for part in card["splits"].values()] == [5, 0, 1]
    assert _errors(tmp_path / "cset") == []


def test_a_manifest_with_both_images_and_unlabelled_ones(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    rows = []
    for i in range(8):
        rng = np.random.default_rng(i)
        for name in ("x", "d"):
            write_image(folder / f"{name}{i}.png", rng.integers(0, 255, (30, 40)).astype(np.uint8))
        mask = np.zeros((30, 40), np.uint8)
        mask[5:9, 5 + i : 9 + i] = 1
        write_image(folder / f"m{i}.png", mask)
        kind = "none" if i == 3 else "unlabelled" if i > 5 else f"m{i}.png"
        rows.append(f"case {i}/a,p{min(i, 6)},x{i}.png,d{i}.png,{kind},0.7,registered,exact,two")
    header = "case,patient,xray,drr,mask,spacing,pairing,mask_kind,reader"
    (folder / "manifest.csv").write_text("\n".join([header, *rows]))
    out = tmp_path / "set"
    card = _build(folder, out)
    made = _read(out)
    assert [case.case_id for case in made.cases()] == [f"case {i}/a" for i in range(6)]
    assert len(unlabelled_cases(made)) == 2
    assert card["counts"] == {
        "cases": 6,
        "patients": 6,
        "positive": 5,
        "negative": 1,
        "lesions": 5,
        "unlabelled": 2,
    }
    assert {row["reader"] for row in _rows(out)} == {"two"}
    assert {row["pairing"] for row in _rows(out)} == {"registered"}
    assert _rows(out)[0]["xray"] == "images/case_0_a_xray.png"
    assert _errors(out) == []
    assert len((out / "splits.csv").read_text().splitlines()) == 1 + 7
    assert card["pairing"] == {"registered": 6}


def test_a_folder_of_attnseg_drr_and_what_the_user_says_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "drrs"
    rows = []
    for i in range(6):
        rng = np.random.default_rng(i)
        write_image(folder / f"c{i}/c{i}_drr.png", rng.integers(0, 255, (30, 40)).astype(np.uint8))
        mask = np.zeros((30, 40), np.uint8)
        mask[5:9, 5:9] = 255
        write_image(folder / f"c{i}/c{i}_mask.png", mask)
        rows.append(f"c{i},p{i},,c{i}/c{i}_drr.png,c{i}/c{i}_mask.png,0.7x0.7,c{i},front")
    header = "case,patient,xray,drr,mask,spacing,scan,view"
    (folder / "manifest.csv").write_text("\n".join([header, *rows]))
    card = _build(folder, tmp_path / "set", "mask_kind=surrogate", "reader=LUNA16")
    assert card["pairing"] == {"same": 6}
    assert card["mask_kind"] == {"surrogate": 6}
    assert card["reader"] == {"LUNA16": 6}
    assert _read(tmp_path / "set").cases()[0].mask_kind == "surrogate"
    with pytest.raises(ConfigError, match="holds another case set"):
        _build(folder, tmp_path / "set")


def test_a_simulated_xray_becomes_a_file(lidc_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "set"
    _build(lidc_folder(4), out, "data.xray=simulated")
    row = _rows(out)[0]
    assert (row["xray"][-9:], row["pairing"]) == ("_xray.png", "registered")
    assert read_image(out / row["xray"]).pixels.dtype == np.uint16


def test_the_card_s_hashes_are_those_of_the_files(lidc_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "set"
    _build(lidc_folder(6), out, "images=copy")
    card = json.loads((out / "DATA_CARD.json").read_text())
    listed = card["files"]
    assert set(listed) == {
        name for name in _everything(out) if name not in ("DATA_CARD.json", "DATA_CARD.md")
    }
    for name, digest in listed.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    page = (out / "DATA_CARD.md").read_text()
    assert card["sha256"] in page
    assert "Not stated by whoever made this set" in page


def test_the_same_source_gives_the_same_set(lidc_folder: Folder, tmp_path: Path) -> None:
    root = lidc_folder(6)
    for name in ("one", "two"):
        _build(root, tmp_path / name, "images=copy")
    assert _everything(tmp_path / "one") == _everything(tmp_path / "two")


def test_check_finds_what_has_changed_since(lidc_folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "set"
    _build(lidc_folder(6), out, "images=copy")
    mask = next((out / "masks").iterdir())
    other = np.zeros((40, 64), np.uint8)
    other[1, 1] = 255
    write_image(mask, other)
    next((out / "images").iterdir()).unlink()
    text = "\n".join(_errors(out))
    assert f"{mask}: has changed since the set was built" in text
    assert "is in DATA_CARD.json, but not there" in text


def test_everything_wrong_with_a_source_comes_at_once_and_lists_nothing(
    lidc_folder: Folder, tmp_path: Path
) -> None:
    root, out = lidc_folder(10), tmp_path / "set"
    drrs = sorted(root.rglob("*_drr.png"), key=lambda path: path.name)
    drrs[2].write_bytes(drrs[2].read_bytes()[:200])
    next(root.rglob("LIDC-IDRI-0005*_mask.png")).unlink()
    drrs[6].write_bytes(drrs[7].read_bytes())  # two patients, the same pixels
    write_image(root / "x" / drrs[8].name, np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError) as caught:
        _build(root, out)
    text = "\n".join(caught.value.problems)
    for wanted in (
        "0009_scan  8_drr.png: duplicate case",
        "LIDC-IDRI-0003",
        "cannot be decoded",
        "missing mask",
        "have the same pixels (patients would leak between splits)",
    ):
        assert wanted in text
    assert not (out / "manifest.csv").exists()
    assert not (out / "DATA_CARD.json").exists()


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    root = chestx_det(
        tmp_path / "c",
        [chestx_entry("00000001_000.png", ["Nodule"]), chestx_entry("00000002_000.png")],
        [chestx_entry("00000001_001.png")],
    )
    with pytest.raises(DataError, match="patient 00000001: in test and train"):
        _build(root, tmp_path / "set", "data.split.kind=fixed")


def test_a_mended_source_is_finished_without_doing_all_again(
    lidc_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = lidc_folder(8), tmp_path / "set"
    broken = next(root.rglob("LIDC-IDRI-0003*_drr.png"))
    good = broken.read_bytes()
    broken.write_bytes(good[:200])
    with pytest.raises(DataError):
        _build(root, out)
    broken.write_bytes(good)
    decoded: list[Path] = []
    plain = write.read_image

    def counted(path: Path) -> Any:
        decoded.append(path)
        return plain(path)

    monkeypatch.setattr(write, "read_image", counted)
    _build(root, out)
    assert [path.name for path in decoded] == [broken.name]
    assert _errors(out) == []
    assert not (out / ".build").exists()


_KILLED = """
import sys, os, signal
from attnseg.data.case_set import write
plain, count = write.write_json, [0]
def deadly(path, value):
    count[0] += 1
    if count[0] == int(os.environ["AFTER"]):
        os.kill(os.getpid(), signal.SIGKILL)
    plain(path, value)
write.write_json = deadly
from attnseg.cli import main
sys.exit(main(["data", "build", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("after", [1, 5])
def test_a_killed_build_goes_on_and_ends_the_same(
    lidc_folder: Folder, tmp_path: Path, after: int
) -> None:
    root, out = lidc_folder(8), tmp_path / "set"
    command = [sys.executable, "-c", _KILLED, f"source={root}", f"out={out}", "images=copy"]
    done = subprocess.run(command, env={**os.environ, "AFTER": str(after)}, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert not (out / "manifest.csv").exists()
    (out / "images" / ".half.png.99.tmp").write_text("")
    _build(root, out, "images=copy")
    _build(root, tmp_path / "other", "images=copy")
    assert _everything(out) == _everything(tmp_path / "other")


def test_a_finished_set_is_left_alone(lidc_folder: Folder, tmp_path: Path) -> None:
    root, out = lidc_folder(6), tmp_path / "set"
    _build(root, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert _build(root, out)["already_built"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    write_image(next(root.rglob("*_drr.png")), np.eye(40, 64, dtype=np.uint8))
    with pytest.raises(ConfigError, match="its source has changed since"):
        _build(root, out)


@pytest.mark.parametrize(
    "how_trained",
    [
        "data.split.train_fraction=0.5",
        "data.batch_size=1",
        "data.size=64",
        "data.patch.size=32",
        "data.synthetic.power=[1.0,1.0]",
    ],
)
def test_how_a_set_is_trained_on_makes_no_other_set(
    how_trained: str, lidc_folder: Folder, tmp_path: Path
) -> None:
    root, out = lidc_folder(6), tmp_path / "set"
    _build(root, out)
    assert _build(root, out, how_trained)["already_built"]
    assert len(_rows(out)) == 6


def test_a_folder_that_is_not_free(lidc_folder: Folder, tmp_path: Path) -> None:
    root, out = lidc_folder(6), tmp_path / "set"
    _build(root, out)
    with pytest.raises(ConfigError, match="holds another case set"):
        _build(root, out, "images=copy")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"is not empty \(thesis.tex\)"):
        _build(root, tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"out=.*cannot be written to"):
        _build(root, tmp_path / "file")
    begun = tmp_path / "begun"
    (begun / ".build").mkdir(parents=True)
    (begun / ".build" / "id").write_text("another\n")
    with pytest.raises(ConfigError, match="another case set was begun there"):
        _build(root, begun)


def test_names_that_differ_by_capitals_or_signs_stay_apart(tmp_path: Path) -> None:
    rows = []
    for i, name in enumerate(("a b", "a/b", "A_b", "../up", "é")):
        pixels = np.random.default_rng(i).integers(0, 255, (30, 40)).astype(np.uint8)
        write_image(tmp_path / "own" / f"x{i}.png", pixels)
        rows.append(f"{name},p{i},x{i}.png,,none")
    (tmp_path / "own" / "manifest.csv").write_text("\n".join(["case,patient,xray,drr,mask", *rows]))
    out = tmp_path / "set"
    _build(tmp_path / "own", out, "images=copy")
    names = [row["xray"] for row in _rows(out)]
    assert len({name.lower() for name in names}) == 5
    assert sorted(path.name for path in (out / "images").iterdir()) == sorted(
        Path(name).name for name in names
    )


def test_dicom_is_converted_so_that_its_header_stays_behind(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    pixels = np.random.default_rng(0).integers(0, 4000, (1, 30, 40)).astype(np.uint16)
    image = sitk.GetImageFromArray(pixels)
    image.SetMetaData("0010|0010", "Doe^Jane")
    image.SetMetaData("0018|1164", "0.2\\0.3")
    image.SetSpacing((0.3, 0.2, 1.0))  # once a CT was read, ITK writes Pixel Spacing, too
    sitk.WriteImage(image, str(own / "x.dcm"))
    sitk.WriteImage(sitk.GetImageFromArray(pixels[0] + 1), str(own / "y.mhd"))  # and y.raw
    rows = "a,p,x.dcm,,none\nb,q,y.mhd,,none\n"
    (own / "manifest.csv").write_text("case,patient,xray,drr,mask\n" + rows)
    assert b"Doe" in (own / "x.dcm").read_bytes()
    for mode in ("link", "copy"):
        out = tmp_path / mode
        zero = ("data.split.val_fraction=0", "data.split.test_fraction=0")
        card = _build(own, out, f"images={mode}", *zero)
        assert card["files_are"] == {"converted": 2}
        assert not any(b"Doe" in text for text in _everything(out).values())
        first = _rows(out)[0]
        assert first["spacing"] == "0.2x0.3"
        np.testing.assert_array_equal(read_image(out / first["xray"]).pixels, pixels[0])


def test_a_source_is_recognised_by_what_is_in_it(lidc_folder: Folder, tmp_path: Path) -> None:
    root = lidc_folder(2)
    assert detect_source(root) == ("lidc_drr", root)
    assert detect_source(jsrt(tmp_path / "j"))[0] == "jsrt"
    assert detect_source(node21(tmp_path / "n", n=2))[0] == "node21"
    entry = chestx_entry("00000001_000.png", ["Nodule"])
    assert detect_source(chestx_det(tmp_path / "c", [entry]))[0] == "chestx_det"
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "manifest.csv").write_text("")
    assert detect_source(tmp_path / "m") == ("manifest", tmp_path / "m" / "manifest.csv")
    (tmp_path / "e").mkdir()
    with pytest.raises(ConfigError, match="is in no known layout"):
        detect_source(tmp_path / "e")
    with pytest.raises(ConfigError, match="no such file or folder"):
        detect_source(tmp_path / "none")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ConfigError, match="a file must be a manifest"):
        detect_source(tmp_path / "x.txt")


def test_a_source_may_be_named_by_kind(tmp_path: Path) -> None:
    words = chosen_source(["source=jsrt", "root=/data/jsrt", "out=x"])
    assert words == ["data=jsrt", "data.root=/data/jsrt", "out=x"]
    with pytest.raises(ConfigError, match="source is not set"):
        chosen_source(["out=x"])
    assert chosen_source(["data=jsrt", "out=x"]) == ["data=jsrt", "out=x"]
