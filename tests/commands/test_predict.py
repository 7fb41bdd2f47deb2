"""`attnseg predict`: images in, findings out, on the images' own grid."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from attnseg.cli import main
from attnseg.imaging.images import read_image, write_image
from attnseg.inference import case as case_module
from attnseg.inference import session
from attnseg.runs.folder import RunFolder
from tests.hostile import BOMBS, NAMES, SIDE, named
from tests.imaging.test_radiograph import BROKEN, broken
from tests.inference.helpers import (
    PATIENT,
    as_integers,
    phantom_images,
    read_seg_by_hand,
    write_dicom,
)

SECRETS = (PATIENT.split("^")[0], "Richard", "MRN-4711", "19010203", "ACC-99")


def predict(checkpoint: Path | str, images: Path | str, out: Path, *words: str) -> int:
    given = [f"checkpoint={checkpoint}", f"images={images}", f"out={out}", "accelerator=cpu"]
    return main(["predict", *given, *words])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def result(out: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((out / "cases" / name / "result.json").read_text()))


def volume(out: Path, name: str, what: str) -> np.ndarray:
    return read_image(out / "cases" / name / f"{what}.nii.gz").pixels


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where results go."""
    return tmp_path / "out"


@pytest.fixture(scope="module")
def other(finished: RunFolder) -> RunFolder:
    """Another run at the same image size."""
    return finished


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six phantoms: xray/ and drr/ as 16-bit PNG, 64 x 52 px."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, images in enumerate(phantom_images(6)):
        for name, pixels in (("xray", images.xray), ("drr", images.drr)):
            path = folder / name / f"p{index}_{name}.png"
            write_image(path, as_integers(pixels[:, 6:58], 16))
    return folder


def evaluated(
    checkpoint: Path, pictures: Path, folder: Path, *words: str
) -> dict[str, dict[str, np.ndarray]]:
    """The maps of `attnseg evaluate` on a manifest of these pictures, without padding."""
    from attnseg.data.datamodule import AttnSegDataModule
    from attnseg.evaluation.engine import EvaluatedCase, evaluate_batches
    from attnseg.evaluation.job import prepare
    from attnseg.inference.predictor import predictor_of

    folder.mkdir()
    lines = ["case,patient,xray,drr,mask"]
    for index in range(6):
        files = (pictures / name / f"p{index}_{name}.png" for name in ("xray", "drr"))
        lines.append(f"p{index}_xray,p{index},{','.join(map(str, files))},none")
    (folder / "manifest.csv").write_text("\n".join(lines))
    job = prepare(
        "evaluate", [f"checkpoint={checkpoint}", "data=manifest", f"data.root={folder}", *words]
    )
    found: dict[str, dict[str, np.ndarray]] = {}

    def keep(seen: EvaluatedCase) -> None:
        top, left, height, width = seen.content
        inside = np.s_[top : top + height, left : left + width]
        maps = {"probability": seen.probability, "attention": seen.attention}
        found[seen.row["case_id"]] = {name: values[inside] for name, values in maps.items()}

    module = AttnSegDataModule(job.measured, progress=False)
    batches = module.eval_dataloader("all")
    evaluate_batches(predictor_of(job.members, job.passes), batches, threshold=0.5, on_case=keep)
    return found


@pytest.mark.parametrize("words", [(), ("tta=flip", "mc_dropout=2", "seed=3")])
def test_a_png_gives_the_probabilities_of_evaluate(
    words: tuple[str, ...],
    detector: RunFolder,
    pictures: Path,
    tmp_path: Path,
    out: Path,
) -> None:
    expected = evaluated(detector.path, pictures, tmp_path / "set", *words)
    drr = f"drr={pictures / 'drr'}"
    assert predict(detector.path, pictures / "xray", out, drr, *words) == 0
    assert len(expected) == 6
    for name, maps in expected.items():
        assert maps["probability"].shape == (64, 52)
        for what, values in maps.items():
            # Batches of another size round otherwise; attention's softmax is steep.
            np.testing.assert_allclose(volume(out, name, what), values, atol=1e-5)
        assert result(out, name)["pathways"] == "xray+drr"


def test_what_is_written_agrees_with_itself(
    detector: RunFolder,
    pictures: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert predict(detector.path, pictures / "xray", out, "tta=flip") == 0
    table, images = rows(out / "lesions.csv"), rows(out / "images.csv")
    document = json.loads((out / "lesions.json").read_text())
    assert [row["case"] for row in images] == [f"p{i}_xray" for i in range(6)]
    assert [one["case"] for one in document["cases"]] == [row["case"] for row in images]
    assert len(table) == sum(one["n_lesions"] for one in document["cases"]) > 0
    for row in images:
        mask = volume(out, row["case"], "mask")
        probability = volume(out, row["case"], "probability")
        threshold = np.float32(result(out, row["case"])["threshold"])
        np.testing.assert_array_equal(mask, probability > threshold)
        png = read_image(out / "cases" / row["case"] / "mask.png").pixels
        np.testing.assert_array_equal(png > 0, mask > 0)
        png = read_image(out / "cases" / row["case"] / "probability.png").pixels
        np.testing.assert_allclose(png / 65535, probability, atol=1e-5)
        assert (
            int(row["n_lesions"])
            == sitk.GetArrayFromImage(
                sitk.ConnectedComponent(sitk.GetImageFromArray(mask), True)
            ).max()
        )
        assert volume(out, row["case"], "uncertainty_std").max() > 0
    for row in table:
        assert row["uncertainty_std"] and row["uncertainty_entropy"]
        assert row["row_mm"] == ""  # a PNG knows no mm
    said = capsys.readouterr().out
    assert str(out) in said and "index.html" in said


def test_without_a_drr_every_output_says_so(
    detector: RunFolder,
    tmp_path: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [images] = phantom_images(1)
    write_dicom(tmp_path / "in" / "a.dcm", as_integers(images.xray))
    assert predict(detector.path, tmp_path / "in", out) == 0
    said = capsys.readouterr().out
    assert "X-ray alone" in said and "1 image, " in said
    folder = out / "cases" / "a"
    said = "X-ray alone"
    assert said in result(out, "a")["pathways_meaning"]
    assert all(row["pathways"] == "xray_only" for row in rows(out / "lesions.csv"))
    assert rows(out / "images.csv")[0]["pathways"] == "xray_only"
    assert said in (out / "index.html").read_text()
    for name in ("probability", "mask", "attention"):
        image = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
        assert said in image.GetMetaData("descrip")
    from PIL import Image

    for name in ("mask.png", "overlay.png", "probability.png", "attention.png"):
        with Image.open(folder / name) as picture:
            assert said in picture.text["Description"]  # type: ignore[attr-defined]
    for name in ("segmentation.dcm", "capture.dcm"):
        assert said in pydicom.dcmread(folder / name).SeriesDescription


def round_trip(checkpoint: Path, stored: np.ndarray, folder: Path, spacing: Any) -> Path:
    """Write a radiograph as MONOCHROME1 DICOM, predict on it, check what comes back.

    Returns:
        The case's folder. `attnseg drr` can put its images in the phantom's place.
    """
    source = write_dicom(folder / "in" / "IM0001", stored, monochrome=1, spacing=spacing)
    assert predict(checkpoint, source, folder / "out") == 0
    made = folder / "out" / "cases" / "IM0001"
    mask = sitk.ReadImage(str(made / "mask.nii.gz"))
    pixels = sitk.GetArrayFromImage(mask)
    assert pixels.shape == stored.shape
    assert mask.GetSpacing() == pytest.approx((spacing[1], spacing[0]))
    np.testing.assert_array_equal(read_seg_by_hand(made / "segmentation.dcm"), pixels)
    # And by no DICOM library at all: the pixels are the file's last bytes, eight to each.
    content = (made / "segmentation.dcm").read_bytes()
    bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    padded = 16 * -(-pixels.size // 16)
    np.testing.assert_array_equal(bits[-padded:][: pixels.size], pixels.ravel())
    header, segmentation = pydicom.dcmread(source), pydicom.dcmread(made / "segmentation.dcm")
    assert segmentation.StudyInstanceUID == header.StudyInstanceUID
    assert segmentation.PatientName == header.PatientName
    [series] = segmentation.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == header.SeriesInstanceUID
    [instance] = series.ReferencedInstanceSequence
    assert instance.ReferencedSOPInstanceUID == header.SOPInstanceUID
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(value) for value in measures.PixelSpacing] == pytest.approx(list(spacing))
    return made


def test_round_trip_of_a_phantom_radiograph(detector: RunFolder, tmp_path: Path) -> None:
    images = phantom_images(3)[1]
    stored = as_integers(images.xray)[:, 6:58]
    made = round_trip(detector.path, stored, tmp_path, (0.8, 0.8))
    assert read_seg_by_hand(made / "segmentation.dcm").any(), "nothing was found: a blind test"
    write_image(tmp_path / "same.png", stored)
    assert predict(detector.path, tmp_path / "same.png", tmp_path / "png") == 0
    np.testing.assert_allclose(
        read_image(made / "probability.nii.gz").pixels,
        volume(tmp_path / "png", "same", "probability"),
        atol=1e-5,
    )


def test_the_capture_is_a_picture_for_viewers(detector: RunFolder, tmp_path: Path) -> None:
    made = round_trip(detector.path, as_integers(phantom_images(1)[0].xray), tmp_path, (0.7, 0.7))
    capture = pydicom.dcmread(made / "capture.dcm")
    assert capture.PhotometricInterpretation == "RGB"
    assert capture.pixel_array.shape == (capture.Rows, capture.Columns, 3)
    source = pydicom.dcmread(tmp_path / "in" / "IM0001")
    [reference] = capture.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert capture.StudyInstanceUID == source.StudyInstanceUID
    assert capture.SeriesInstanceUID != source.SeriesInstanceUID


def test_a_header_that_no_standard_allows_costs_the_objects_alone(
    detector: RunFolder, tmp_path: Path, out: Path
) -> None:
    stored = as_integers(phantom_images(1)[0].xray)
    odd = {"PatientSex": "X", "PatientBirthDate": "", "PatientOrientation": ["L", "F"]}
    write_dicom(tmp_path / "in" / "odd", stored, **odd)
    write_dicom(tmp_path / "in" / "lost", stored, StudyInstanceUID=None)
    write_dicom(tmp_path / "in" / "turned", stored, PatientOrientation=["Q", "Z"])
    assert predict(detector.path, tmp_path / "in", out) == 0
    cases = out / "cases"
    assert (cases / "odd" / "segmentation.dcm").is_file()
    assert (cases / "odd" / "capture.dcm").is_file()
    assert "StudyInstanceUID" in " ".join(result(out, "lost")["notes"])
    assert not list((cases / "lost").glob("*.dcm"))
    assert (cases / "turned" / "segmentation.dcm").is_file()
    assert "no capture.dcm" in " ".join(result(out, "turned")["notes"])
    assert all((cases / name / "mask.nii.gz").is_file() for name in ("odd", "lost", "turned"))


def test_a_volumes_geometry_is_kept(detector: RunFolder, tmp_path: Path, out: Path) -> None:
    pixels = phantom_images(1)[0].xray.astype(np.float32)
    image = sitk.GetImageFromArray(pixels[None])
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    image.SetDirection((1, 0, 0, 0, 0, -1, 0, 1, 0))
    (tmp_path / "in").mkdir()
    for name in ("a.nii.gz", "b.mha"):
        sitk.WriteImage(image, str(tmp_path / "in" / name))
    assert predict(detector.path, tmp_path / "in", out) == 0
    for name in ("a", "b"):
        made = sitk.ReadImage(str(out / "cases" / name / "mask.nii.gz"))
        assert made.GetSize() == image.GetSize()
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(made, get)() == pytest.approx(getattr(image, get)(), abs=1e-4)


def patient_data_in(folder: Path, *, dicom: bool) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and (path.suffix == ".dcm") == dicom:
            content = path.read_bytes()
            found += [f"{path.name}: {word}" for word in SECRETS if word.encode() in content]
    return found


def test_patient_data_stay_in_the_dicom_objects(
    detector: RunFolder,
    tmp_path: Path,
    out: Path,
) -> None:
    stored = as_integers(phantom_images(1)[0].xray)
    write_dicom(tmp_path / "in" / "IM0001", stored)
    write_dicom(tmp_path / "in" / "IM0002", stored, Modality="CT")
    assert predict(detector.path, tmp_path / "in", out) == 1
    assert not patient_data_in(out, dicom=False)
    assert patient_data_in(out, dicom=True)


def test_anonymise_leaves_names_paths_and_patients_out(
    detector: RunFolder,
    tmp_path: Path,
    out: Path,
) -> None:
    stored = as_integers(phantom_images(1)[0].xray)
    folder = tmp_path / "Miller^Mary"
    write_dicom(folder / "Miller_Mary.dcm", stored)
    write_dicom(folder / "Miller_Jane.dcm", stored, Modality="US")
    assert predict(detector.path, f"'{folder}'", out, "anonymise=true") == 1
    assert not patient_data_in(out, dicom=False) + patient_data_in(out, dicom=True)
    for path in out.rglob("*"):
        assert "Miller" not in path.name
        assert not path.is_file() or b"Miller" not in path.read_bytes(), path
    [case] = (out / "cases").iterdir()
    source, made = pydicom.dcmread(folder / "Miller_Mary.dcm"), case / "segmentation.dcm"
    [series] = pydicom.dcmread(made).ReferencedSeriesSequence
    [instance] = series.ReferencedInstanceSequence
    assert instance.ReferencedSOPInstanceUID == source.SOPInstanceUID
    import hashlib

    digest = hashlib.sha256((folder / "Miller_Mary.dcm").read_bytes()).hexdigest()
    assert case.name == digest[:12]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the cases that are written."""
    names: list[str] = []
    whole = case_module.write_case

    def write(case: Any, *arguments: Any) -> Any:
        names.append(case.item.name)
        return whole(case, *arguments)

    monkeypatch.setattr(session, "write_case", write)
    return names


def test_what_is_done_is_skipped_until_something_changes(
    detector: RunFolder,
    other: RunFolder,
    pictures: Path,
    tmp_path: Path,
    out: Path,
    writes: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = shutil.copytree(pictures / "xray", tmp_path / "in")
    few = ("save=[nifti]",)
    assert predict(detector.path, images, out, *few) == 0
    assert len(writes) == 6
    writes.clear()
    assert predict(detector.path, images, out, *few, "batch_size=3") == 0
    assert not writes and "6 were there already" in capsys.readouterr().out
    (out / "cases" / "p3_xray" / "result.json").unlink()
    write_image(images / "p1_xray.png", as_integers(phantom_images(6)[5].xray, 16))
    assert predict(detector.path, images, out, *few) == 0
    assert sorted(writes) == ["p1_xray", "p3_xray"]
    for words in ((*few, "threshold=0.3"), (*few, "threshold=0.3", "tta=flip")):
        writes.clear()
        assert predict(detector.path, images, out, *words) == 0
        assert len(writes) == 6
    writes.clear()
    assert predict(other.path, images, out, *words) == 0
    assert len(writes) == 6
    writes.clear()
    assert predict(other.path, images, out, *words, "resume=false") == 0
    assert len(writes) == 6


def test_a_bad_image_stops_no_other(
    detector: RunFolder,
    pictures: Path,
    tmp_path: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = shutil.copytree(pictures / "xray", tmp_path / "in")
    for name, _ in BROKEN[:-1]:
        broken(images, name)
    assert predict(detector.path, images, out, "save=[nifti,page]") == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    for name, reason in BROKEN[:-1]:
        [line] = [one for one in said.out.splitlines() if f"/{name}:" in one]
        assert reason in line
    problems = json.loads((out / "problems.json").read_text())
    assert len(problems) == len(BROKEN) - 1
    assert sorted(path.name for path in (out / "cases").iterdir()) == [
        f"p{i}_xray" for i in range(6)
    ]


def test_a_ct_series_is_one_line(
    detector: RunFolder,
    tmp_path: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for index in range(5):
        write_dicom(
            tmp_path / "ct" / f"{index}", as_integers(np.ones((8, 8)) * index), Modality="CT"
        )
    assert predict(detector.path, tmp_path / "ct", out) == 2
    said = capsys.readouterr().err
    assert "5 files, each a CT slice" in said and "attnseg drr" in said
    assert len([line for line in said.splitlines() if "CT slice" in line]) == 1
    assert not list((out / "cases").iterdir())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["images={tmp}/none"], "no such file or folder"),
        (["images={tmp}/empty"], "no image found"),
        (["images={tmp}/empty/*.png"], "no image found"),
        (["images={xray}", "checkpoint=/none"], "checkpoint=/none: no such file or folder"),
        (["images={xray}", "checkpoint={tmp}/empty"], "holds no checkpoints"),
        (["images={xray}", "checkpoint={xray}/p0_xray.png"], "cannot be read as a checkpoint"),
        (["images={xray}", "out={xray}/p0_xray.png"], "cannot be written to"),
        (["images={xray}", "out=/proc/attnseg"], "cannot be written to"),
        (["images={xray}", "drr={tmp}/none"], "drr={tmp}/none: no such file"),
        (["images={xray}", "tta=rotate"], "tta"),
        (["images={xray}", "save=[niftI]"], "save"),
        (["images={xray}", "batch_size=0"], "batch_size"),
        (["images={xray}", "imges=x"], "did you mean 'images'"),
        (["images={xray}", "accelerator=warp"], "accelerator=warp"),
        ([], "images is not set"),
    ],
)
def test_a_users_mistake_is_one_message(
    words: list[str],
    reason: str,
    detector: RunFolder,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"tmp": tmp_path, "xray": pictures / "xray"}
    given = {"checkpoint": str(detector.path), "out": str(tmp_path / "out")}
    given |= dict(word.format(**places).split("=", 1) for word in words)
    assert main(["predict", *(f"{key}={value}" for key, value in given.items())]) == 2
    captured = capsys.readouterr()
    assert reason.format(**places) in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()


def test_a_drr_of_another_grid_or_none_is_named(
    detector: RunFolder,
    pictures: Path,
    tmp_path: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drrs = shutil.copytree(pictures / "drr", tmp_path / "drr")
    (drrs / "p0_drr.png").unlink()
    write_image(drrs / "p1_drr.png", as_integers(phantom_images(2)[1].drr))
    words = (f"drr={drrs}", "save=[nifti]")
    assert predict(detector.path, pictures / "xray", out, *words) == 1
    said = capsys.readouterr().out
    assert "p0_xray.png: no DRR of that name" in said
    assert "p1_drr.png: the DRR is 64 x 64 px, but its X-ray is 64 x 52 px" in said
    assert len(list((out / "cases").iterdir())) == 4


def test_nothing_is_half_written(
    detector: RunFolder,
    pictures: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    count = 0

    def full(path: Path, *arguments: Any) -> None:
        nonlocal count
        count += 1
        if count > 4:
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(b"x")

    monkeypatch.setattr("attnseg.inference.files.write_volume", full)
    assert predict(detector.path, pictures / "xray", out, "save=[nifti]", "batch_size=1") == 1
    assert "No space left on device" in capsys.readouterr().out
    assert [path.name for path in (out / "cases").iterdir()] == ["p0_xray"]


def test_an_ensemble_is_the_mean_of_its_members(
    detector: RunFolder,
    other: RunFolder,
    pictures: Path,
    tmp_path: Path,
    out: Path,
) -> None:
    image = pictures / "xray" / "p2_xray.png"
    save = "save=[nifti]"
    for name, folder in (("a", detector), ("b", other)):
        assert predict(folder.path, image, tmp_path / name, save) == 0
    assert predict(f"[{detector.path},{other.path}]", image, out, save) == 0
    listing = tmp_path / "members"
    listing.mkdir()
    (listing / "ensemble.txt").write_text(f"{detector.path}  # one\n\n{other.path}\n")
    assert predict(listing, image, tmp_path / "listed", save) == 0
    for what in ("probability", "attention"):
        parts = [volume(tmp_path / name, "p2_xray", what) for name in ("a", "b")]
        for made in (out, tmp_path / "listed"):
            np.testing.assert_allclose(volume(made, "p2_xray", what), np.mean(parts, 0), atol=1e-6)
    parts = [volume(tmp_path / name, "p2_xray", "probability") for name in ("a", "b")]
    std = volume(out, "p2_xray", "uncertainty_std")
    np.testing.assert_allclose(std, np.std(parts, 0), atol=1e-6)


def test_huge_images_are_read_in_tiles(detector: RunFolder, tmp_path: Path, out: Path) -> None:
    images = phantom_images(1, size=160)[0]
    write_image(tmp_path / "big.png", as_integers(images.xray, 16))
    assert predict(detector.path, tmp_path / "big.png", out, "tiles=2", "save=[nifti]") == 0
    record = result(out, "big")
    assert record["tiles"] == 9
    assert "tiles" in " ".join(record["notes"])
    assert volume(out, "big", "probability").shape == (160, 160)


def test_no_more_images_than_a_batch_are_held(
    detector: RunFolder,
    pictures: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = 0
    finish = session._finish

    def watched(waiting: list[Any], *arguments: Any) -> None:
        nonlocal most
        most = max(most, len(waiting))
        finish(waiting, *arguments)
        assert not waiting

    monkeypatch.setattr(session, "_finish", watched)
    assert predict(detector.path, pictures / "xray", out, "save=[]", "batch_size=2") == 0
    assert most == 2


def test_evaluate_measures_ensembles_and_augmentation(
    detector: RunFolder,
    other: RunFolder,
    tmp_path: Path,
) -> None:
    def measured(name: str, *words: str) -> dict[str, Any]:
        given = ["split=all", f"output_dir={tmp_path / name}", "n_pictures=0", "data.n_cases=6"]
        assert main(["evaluate", *given, *words]) == 0
        return dict(json.loads((tmp_path / name / "metrics.json").read_text()))

    one = f"checkpoint={detector.path}"
    plain, flipped = measured("plain", one), measured("flip", one, "tta=flip")
    both = measured("both", f"checkpoint=[{detector.path},{other.path}]")
    assert "tta" not in plain
    assert flipped["tta"] == "flip" and not flipped["as_trained"]
    assert len(both["members"]) == 2
    values = {run["dice_original"] for run in (plain, flipped, both)}
    assert len(values) == 3


def test_one_bad_image_stops_nothing(
    finished: RunFolder,
    pictures: Path,
    tmp_path: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What claims to be huge is listed; what has an odd name is predicted, and named readably."""
    folder = tmp_path / "in"
    folder.mkdir()
    source = pictures / "xray" / "p0_xray.png"
    for name in NAMES:
        shutil.copy(source, named(folder, name, ".png"))
    for ending in (".png", ".nii.gz", ".jpg"):
        (folder / f"bomb{ending}").write_bytes(BOMBS[ending](SIDE))
    (named(folder, b"br\xf6ken", ".png")).write_bytes(b"nothing")
    assert predict(finished.path, folder, out) == 1
    text = capsys.readouterr().out
    assert "5 images" in text and "4 images could not be used" in text
    assert "bomb.png: its header says 60000 x 60000 px" in text
    assert r"br\xf6ken.png: cannot be decoded" in text
    problems = json.loads((out / "problems.json").read_text())
    assert len(problems) == 4
    images = {row["image"] for row in rows(out / "images.csv")}
    assert len(images) == 5
    assert str(folder / r"\xe9t\xe9.png") in images
    for path in (out / "lesions.json", out / "index.html", *out.glob("cases/*/result.json")):
        assert "\\udc" not in path.read_text(encoding="utf-8")


def test_memory_that_runs_out_over_one_image_stops_no_other(
    finished: RunFolder, pictures: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = session.open_case, []

    def opened(item: Any, *rest: Any) -> Any:
        seen.append(item)
        if len(seen) == 2:
            raise MemoryError
        return whole(item, *rest)

    monkeypatch.setattr(session, "open_case", opened)
    assert predict(finished.path, pictures / "xray", out) == 1
    assert len(list((out / "cases").iterdir())) == 5
    (problem,) = json.loads((out / "problems.json").read_text()).values()
    assert "does not fit the memory" in problem
