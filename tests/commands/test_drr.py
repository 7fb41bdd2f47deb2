"""`attnseg drr` from files to a manifest that trains."""

from __future__ import annotations

import csv
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnseg.cli import main
from attnseg.common.errors import ConfigError
from attnseg.data.sources.manifest import ManifestSource
from attnseg.imaging.drr import batch
from attnseg.imaging.drr.geometry import Geometry
from attnseg.imaging.drr.outputs import read_sidecar
from attnseg.imaging.images import read_image, read_mask
from tests.hostile import BOMBS, NAMES, SIDE, named
from tests.imaging.drr.helpers import chest, write, write_series

QUIET = ("progress_bar=false", "workers=0")
SMALL = ("projection=cone_beam", "projection.detector.size=[48,48]",
         "projection.detector.pixel_mm=0.8")  # fmt: skip


def _drr(*words: object) -> int:
    return main(["drr", *QUIET, *map(str, words)])


@pytest.fixture
def chests(tmp_path: Path) -> Path:
    """Three CTs and their masks."""
    for number in range(3):
        hu, mask = chest(seed=number)
        write(tmp_path / "ct" / f"p{number}_ct.nii.gz", hu)
        write(tmp_path / "mask" / f"p{number}_mask.nii.gz", mask if number != 1 else 0 * mask)
    return tmp_path


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open() as stream:
        return list(csv.DictReader(stream))


def _state(out: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in out.rglob("*_drr.png")
    }


def test_a_folder_of_cts_becomes_a_data_set(
    chests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = chests / "out"
    views = "projection.views=[PA,left_lateral]"
    code = _drr(f"ct={chests}/ct", f"mask={chests}/mask", f"out={out}", *SMALL, views, "bits=16")
    assert code == 0
    said = capsys.readouterr().out
    assert "3 projected" in said
    assert str(out / "manifest.csv") in said
    assert (out / "contact_sheet.png").is_file()
    rows = _rows(out)
    assert [row["case"] for row in rows[:2]] == ["p0_PA", "p0_left_lateral"]
    assert len(rows) == 6
    assert {row["patient"] for row in rows} == {"p0", "p1", "p2"}
    source = ManifestSource(root=str(out))
    assert not source.problems()
    for case in source.cases():
        images = source.load(case)
        assert images.drr.shape == (48, 48)
        assert images.drr.dtype == np.uint16
        assert bool(images.mask.any()) == (case.patient_id != "p1")
        assert images.spacing == pytest.approx((0.8 / 1.125,) * 2, rel=1e-4)
    assert main(["data", "check", "data=manifest", f"data.root={out}"]) == 0


def test_the_sidecar_traces_a_pixel_back_to_the_ct(chests: Path) -> None:
    out = chests / "out"
    ct, mask = chests / "ct" / "p0_ct.nii.gz", chests / "mask" / "p0_mask.nii.gz"
    assert _drr(f"ct={ct}", f"mask={mask}", f"out={out}", *SMALL) == 0
    record = read_sidecar(out / "p0" / "p0_PA.json")
    geometry = Geometry.from_record(record["geometry"])
    labels = read_image(out / "p0" / record["files"]["labels"]).pixels
    thickness = read_image(out / "p0" / record["files"]["thickness"]).pixels
    drawn = read_mask(out / "p0" / record["files"]["mask"]).pixels
    np.testing.assert_array_equal(drawn > 0, thickness > 0)
    np.testing.assert_array_equal(drawn > 0, labels > 0)
    assert record["thickness_unit_mm"] == 0.01
    assert len(record["nodules"]) == 2
    for nodule in record["nodules"]:
        np.testing.assert_allclose(
            geometry.world_to_pixel(nodule["centre_lps_mm"]), nodule["centre_px"], atol=0.01
        )
        at = tuple(np.rint(nodule["centre_px"]).astype(int))
        assert labels[at] == nodule["label"]
    assert record["projection"]["attenuation"]["water_per_mm"] == 0.0193
    assert record["volume"]["size_xyz"] == [28, 24, 20]
    with pytest.raises(ConfigError, match="no JSON"):
        read_sidecar(out / "manifest.csv")


def test_done_cases_are_skipped_while_nothing_changed(
    chests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = chests / "out"
    words = (f"ct={chests}/ct", f"mask={chests}/mask", f"out={out}", *SMALL)
    assert _drr(*words) == 0
    first = _state(out)
    assert _drr(*words, "n_pictures=0", "chunk_mb=16") == 0  # what shapes no output
    assert "0 projected, 3 were done" in capsys.readouterr().out
    assert _state(out) == first
    hu, _ = chest(seed=9)
    write(chests / "ct" / "p2_ct.nii.gz", hu)
    (out / "p0" / "p0_PA_mask.png").unlink()
    assert _drr(*words) == 0
    assert "2 projected, 1 were done" in capsys.readouterr().out
    second = _state(out)
    assert second["p1/p1_PA_drr.png"] == first["p1/p1_PA_drr.png"]
    assert second["p0/p0_PA_drr.png"][1] == first["p0/p0_PA_drr.png"][1]
    assert second["p2/p2_PA_drr.png"][1] != first["p2/p2_PA_drr.png"][1]
    assert _drr(*words, "projection.display.blur_px=1.0") == 0
    assert "3 projected, 0 were done" in capsys.readouterr().out
    assert _drr(*words, "projection.display.blur_px=1.0", "overwrite=true") == 0
    assert "3 projected, 0 were done" in capsys.readouterr().out


def test_the_result_is_the_same_with_any_number_of_workers(chests: Path) -> None:
    def made(name: str, *words: str) -> dict[str, bytes]:
        out = chests / name
        main(["drr", f"ct={chests}/ct", f"mask={chests}/mask", f"out={out}", *SMALL, *words])
        return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("p*"))
                if p.is_file() and p.name != "case.json"}  # fmt: skip

    assert made("one", *QUIET) == made("two", "workers=2")


def test_one_broken_volume_stops_no_other(chests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = chests / "ct" / "p1_ct.nii.gz"
    broken.write_bytes(broken.read_bytes()[:2000])
    write(chests / "mask" / "p9_mask.nii.gz", chest()[1])
    out = chests / "out"
    assert _drr(f"ct={chests}/ct", f"mask={chests}/mask", f"out={out}", *SMALL) == 1
    said = capsys.readouterr()
    assert "2 projected" in said.out
    assert "2 could not be projected" in said.err
    assert "p1_ct.nii.gz: truncated" in said.err
    assert "p9_mask.nii.gz: a mask without a CT" in said.err
    assert "Traceback" not in said.err
    assert [row["scan"] for row in _rows(out)] == ["p0", "p2"]
    assert sorted(path.name for path in out.iterdir()) == [
        "contact_sheet.png", "manifest.csv", "p0", "p2"
    ]  # fmt: skip


def test_a_fault_of_the_program_is_one_volumes_own(
    chests: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = batch.read_ct

    def faulty(path: Path, *rest: Any) -> Any:
        if "p2" in path.name:
            raise MemoryError("no more")
        return read(path, *rest)

    monkeypatch.setattr(batch, "read_ct", faulty)
    assert _drr(f"ct={chests}/ct", f"out={chests}/out", *SMALL) == 1
    said = capsys.readouterr()
    assert "p2: MemoryError at" in said.err
    assert "2 projected" in said.out


def test_a_fault_with_a_single_volume_is_no_mistake_of_the_users(
    chests: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batch, "write_case", faulty)
    assert _drr(f"ct={chests}/ct/p0_ct.nii.gz", f"out={chests}/out", *SMALL) == 1
    assert "p0: [Errno 28] No space left on device" in capsys.readouterr().err


def test_a_killed_worker_is_told(
    chests: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(batch, "read_ct", killed)
    words = (f"ct={chests}/ct", f"out={chests}/out", "workers=2", "progress_bar=false")
    assert main(["drr", *words]) == 2
    assert "a worker process was killed" in capsys.readouterr().err


def test_what_fails_while_writing_leaves_nothing(
    chests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = chests / "out"
    words = (f"ct={chests}/ct", f"out={out}", *SMALL)
    assert _drr(*words) == 0
    before = _state(out)

    from attnseg.imaging.drr import outputs

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_json", full)
    assert _drr(*words, "bits=16") == 1
    assert _state(out) == before  # the old cases are whole
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_after_a_kill_nothing_is_half_there_and_the_rest_is_done(chests: Path) -> None:
    for number in range(3, 12):
        write(chests / "ct" / f"p{number}_ct.nii.gz", chest(seed=number)[0])
    out = chests / "out"
    command = [sys.executable, "-m", "attnseg", "drr", f"ct={chests}/ct", f"out={out}",
               *SMALL, *QUIET, "projection.random_views.count=6"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240  # never waited for where the machine is not stuck
    while time.monotonic() < deadline and not list(out.glob("p*/case.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.parent.name for path in out.glob("p*/case.json")}
    assert done
    for folder in out.glob("p*"):
        record = json.loads((folder / "case.json").read_text())
        assert all((folder / name).is_file() for name in record["files"])
    (out / ".writing-p5-1").mkdir(exist_ok=True)  # as a kill in the middle leaves it
    assert main(command[3:]) == 0
    assert len(_rows(out)) == 12 * 7
    assert not list(out.glob(".writing*"))


def test_an_interrupted_run_says_how_to_go_on(
    chests: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = batch.read_ct

    def interrupted(path: Path, *rest: Any) -> Any:
        if "p1" in path.name:
            raise KeyboardInterrupt
        return read(path, *rest)

    monkeypatch.setattr(batch, "read_ct", interrupted)
    words = (f"ct={chests}/ct", f"out={chests}/out", *SMALL)
    assert _drr(*words) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert [path.name for path in (chests / "out").iterdir()] == ["p0"]
    monkeypatch.undo()
    assert _drr(*words) == 0
    assert "2 projected, 1 were done" in capsys.readouterr().out


def test_no_header_gets_into_an_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hu, mask = chest()
    write_series(tmp_path / "ct" / "MUSTERMANN", hu, uid="1.2.826.0.1.77")
    write_series(tmp_path / "ct" / "scan2", hu + 1, uid="1.2.826.0.1.78")
    write(tmp_path / "mask" / "scan2.nii.gz", mask)
    out = tmp_path / "out"
    words = (f"ct={tmp_path}/ct", f"mask={tmp_path}/mask", f"out={out}", "masks.missing=unknown")
    assert _drr(*words, *SMALL) == 0
    for path in [out, *out.rglob("*")]:
        content = str(path.relative_to(tmp_path)).encode()
        content += path.read_bytes() if path.is_file() else b""
        for secret in (b"mustermann", b"erika", b"4711", b"19640812", b"elsewhere", b"1.2.826"):
            assert secret not in content.lower(), f"{secret!r} in {path}"
    rows = _rows(out)
    assert len({row["patient"] for row in rows}) == 1
    assert sorted(row["mask"] == "unlabelled" for row in rows) == [False, True]
    assert _drr(*words, *SMALL, "patient=header") == 0
    assert {row["patient"] for row in _rows(out)} == {"PID-4711"}


def test_dicom_and_nifti_of_a_ct_give_the_same_picture(tmp_path: Path) -> None:
    hu, mask = chest()
    write_series(tmp_path / "series", hu)
    write(tmp_path / "ct.nii.gz", hu)
    write_series(tmp_path / "mask", mask.astype(np.int16))
    write(tmp_path / "mask.nii.gz", mask)
    pictures = []
    for name, masks in (("series", "mask"), ("ct.nii.gz", "mask.nii.gz")):
        out = tmp_path / f"out-{name}"
        assert _drr(f"ct={tmp_path / name}", f"mask={tmp_path / masks}", f"out={out}") == 0
        (row,) = _rows(out)
        pictures.append([read_image(out / row[key]).pixels for key in ("drr", "mask")])
    for one, other in zip(*pictures, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_a_cut_off_nodule_is_told(chests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ct, mask = chests / "ct" / "p0_ct.nii.gz", chests / "mask" / "p0_mask.nii.gz"
    few = "projection.detector.size=[6,6]"
    assert _drr(f"ct={ct}", f"mask={mask}", f"out={chests}/out", *SMALL, few) == 0
    assert "no ray meets nodule" in capsys.readouterr().err


def test_without_masks_the_manifest_says_unlabelled(
    chests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _drr(f"ct={chests}/ct", f"out={chests}/out", *SMALL, "write=[]") == 0
    assert "lists the cases as unlabelled" in capsys.readouterr().out
    assert {row["mask"] for row in _rows(chests / "out")} == {"unlabelled"}
    source = ManifestSource(root=str(chests / "out"))
    assert not source.cases()
    listed = [case.case_id for case in source.unlabelled()]
    assert listed == [row["case"] for row in _rows(chests / "out")]


def _read_only(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out").chmod(0o500)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["ct=nowhere"], "no such file or folder"),
        (["mask=nowhere"], "mask=nowhere"),
        (["out=ct/p0_ct.nii.gz"], "cannot be written to"),
        (["out=ct"], "is the folder of the CTs itself"),
        (["projection=fan"], "fan"),
        (["projection.views=[sideways]"], "'sideways' is no view"),
        (["projection.views=[]"], "views is empty"),
        (["projection.views=[PA,0]"], "PA is there twice"),
        (["projection=cone_beam", "projection.source_detector_mm=900"], "behind the detector"),
        (["projection.rays_per_pixel=2"], "detector.grid=voxels"),
        (["projection.display.window=[1,2]"], "one of percentiles and window"),
        (["projection.display.percentiles=[99,1]"], "low < high"),
        (["projection.dispaly.blur_px=1"], "did you mean 'projection.display'"),
        (["device=cuda:99"], "device=cuda:99"),
        (["device=warp"], "no such device"),
        (["patient_pattern='('"], "no regular expression"),
        (["bits=12"], "bits"),
    ],
)
def test_a_users_mistake_is_one_message(
    chests: Path,
    words: list[str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(chests)
    assert _drr("ct=ct", "out=out", *words) == 2
    said = capsys.readouterr()
    assert reason in said.err
    assert "Traceback" not in said.err
    assert not list(chests.glob("out/*"))


def test_one_broken_ct_alone_is_the_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.nii.gz", np.zeros((4, 5, 6), np.int16))
    assert _drr(f"ct={path}", f"out={tmp_path / 'out'}") == 2
    assert "every voxel is 0" in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_what_is_there_already_is_not_replaced(
    chests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (chests / "out" / "p0").mkdir(parents=True)
    (chests / "out" / "p0" / "thesis.txt").write_text("mine")
    assert _drr(f"ct={chests}/ct", f"out={chests}/out", *SMALL) == 2
    assert "no case of attnseg drr's" in capsys.readouterr().err
    assert (chests / "out" / "p0" / "thesis.txt").read_text() == "mine"


def test_two_at_once_do_not_share_a_folder(
    chests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from attnseg.imaging.drr.outputs import output_folder

    with output_folder(chests / "out"):
        assert _drr(f"ct={chests}/ct", f"out={chests}/out", *SMALL) == 2
    assert "another `attnseg drr` is writing there" in capsys.readouterr().err
    assert not list((chests / "out").iterdir())


def test_the_phantoms_round_trip_trains(tmp_path: Path) -> None:
    """A phantom CT as DICOM becomes a case that the model's data module takes."""
    from attnseg.data.sources.phantom import PhantomSource

    source = PhantomSource(n_cases=3, size=64)
    for number, case in enumerate(source.cases()[:2]):
        phantom = source.phantom(case)
        spacing = phantom.spacing[::-1]
        write_series(tmp_path / "ct" / f"scan{number}", phantom.volume_hu, spacing=spacing,
                     uid=f"1.2.{number}")  # fmt: skip
        write(tmp_path / "mask" / f"scan{number}.nii.gz", phantom.nodule_mask.astype(np.uint8),
              spacing=spacing)  # fmt: skip
    out = tmp_path / "out"
    assert _drr(f"ct={tmp_path}/ct", f"mask={tmp_path}/mask", f"out={out}") == 0
    read = ManifestSource(root=str(out))
    for made, case in zip(read.cases(), source.cases(), strict=False):
        expected = source.load(case)
        found = read.load(made)
        np.testing.assert_array_equal(found.mask, expected.mask)
        assert np.corrcoef(found.drr.ravel(), expected.drr.ravel())[0, 1] > 0.97


def test_a_bad_volume_stops_no_other_whatever_it_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hu, _ = chest()
    folder = tmp_path / "ct"
    plain = write(folder / "plain.nii.gz", hu)
    for name in NAMES:
        named(folder, name, ".nii.gz").write_bytes(plain.read_bytes())
    series = named(folder, b"s\xe9ries", "")
    write_series(folder / "series", hu)
    (folder / "series").rename(series)
    first = next(series.iterdir())
    first.rename(named(series, b"\xff", ".dcm"))
    huge = bytearray(BOMBS[".nii"](SIDE))
    struct.pack_into("<8h", huge, 40, 3, 32_767, 32_767, 32_767, 1, 1, 1, 1)
    (folder / "bomb.nii").write_bytes(huge)
    (folder / "other.mha").write_bytes(BOMBS[".mha"](SIDE))
    assert _drr(f"ct={folder}", f"out={tmp_path / 'out'}", *SMALL) == 1
    told = capsys.readouterr().err
    assert "2 could not be projected" in told
    assert "its header says 32767 x 32767 x 32767 voxels" in told
    assert len(_rows(tmp_path / "out")) == len(NAMES) + 2
