"""checkpoint=pretrained: the weights that come with the package."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from attnseg.cli import main
from attnseg.common.errors import CheckpointError
from attnseg.runs import pretrained
from attnseg.runs.checkpoints import export_safetensors, load_checkpoints
from attnseg.runs.folder import RunFolder
from attnseg.runs.pretrained import pretrained_file
from tests.inference.helpers import as_integers, phantom_images, write_dicom

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared" / "data" / "lidc_drr" / "LIDC_LDRI"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the package's folder of weights, empty."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(pretrained, "_folder", lambda: folder)
    return folder


def test_without_a_file_the_message_says_so(
    package: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for words in (
        ["evaluate"],
        ["analyze"],
        ["export"],
        ["predict", f"images={tmp_path}", f"out={tmp_path / 'out'}"],
    ):
        assert main([*words, "checkpoint=pretrained"]) == 2
        assert "has no pretrained weights" in capsys.readouterr().err


def test_every_command_takes_it(
    finished: RunFolder, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_safetensors(load_checkpoints(str(finished.path)), package / "small.safetensors")
    monkeypatch.chdir(tmp_path)
    one = "checkpoint=pretrained"
    assert main(["evaluate", one, "split=all"]) == 0
    metrics = json.loads(Path("runs/pretrained/evaluate/phantom-all/metrics.json").read_text())
    assert metrics["checkpoint"] == str(package / "small.safetensors")
    assert main(["analyze", one, "split=all", "output_dir=analysis"]) == 0
    assert main(["export", one, "format=exported_program"]) == 0
    assert list(Path("runs/pretrained/export").glob("*.pt2"))
    write_dicom(tmp_path / "in" / "a.dcm", as_integers(phantom_images(1)[0].xray))
    assert main(["predict", one, "images=in", "out=found"]) == 0
    assert Path("found/cases/a/result.json").is_file()
    assert sorted(path.name for path in package.iterdir()) == ["small.safetensors", "small.yaml"]


def test_a_name_chooses_among_several(finished: RunFolder, package: Path) -> None:
    for name in ("large", "small"):
        export_safetensors(load_checkpoints(str(finished.path)), package / f"{name}.safetensors")
    assert pretrained_file("pretrained:small").name == "small.safetensors"
    with pytest.raises(CheckpointError, match="choose pretrained:NAME from large, small"):
        pretrained_file("pretrained")
    with pytest.raises(CheckpointError, match="there are large, small"):
        pretrained_file("pretrained:huge")
    (package / "small.safetensors").rename(package / "default.safetensors")
    assert pretrained_file("pretrained").name == "default.safetensors"


def test_a_folder_of_that_name_is_a_folder(
    finished: RunFolder, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished.path, tmp_path / "pretrained")
    monkeypatch.chdir(tmp_path)
    assert load_checkpoints("pretrained")[0].path.name == "best.ckpt"


def test_the_wheel_holds_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = pytest.importorskip("hatchling.build", reason="hatchling builds the wheel")
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for name in ("attnseg", "conf", "examples"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", ".gitignore"):
        shutil.copy(REPOSITORY / name, source)
    (source / "attnseg" / "runs" / "pretrained" / "small.safetensors").write_bytes(b"weights")
    (source / "attnseg" / "runs" / "pretrained" / "small.yaml").write_text("model: {}")
    monkeypatch.chdir(source)
    wheel = build.build_wheel(str(tmp_path))
    with zipfile.ZipFile(tmp_path / wheel) as archive:
        names = set(archive.namelist())
    wanted = {"attnseg/runs/pretrained/small.safetensors", "attnseg/runs/pretrained/small.yaml"}
    wanted |= {"attnseg/conf/predict.yaml", "attnseg/examples/mylab/try.sh"}
    assert wanted <= names
    assert not any(name.startswith("tests/") for name in names)


def test_the_shipped_weights_are_small_whole_and_nobodys_paths() -> None:
    path = pretrained_file("pretrained")
    assert path.stat().st_size <= 8_000_000
    assert path.with_suffix(".yaml").is_file()
    assert (path.parent / "MODEL_CARD.md").is_file()
    members = load_checkpoints("pretrained")
    assert len(members) == 2
    assert "/work" not in path.with_suffix(".yaml").read_text()
    assert b"/work/" not in path.read_bytes()[:200_000]  # the header: configuration and record
    for member in members:
        assert member.config.data.name == "lidc_drr"
        assert member.config.data.root is None
        assert "train_patients" not in member.data_record  # plain ids, which the file has
        assert member.trained
        assert member.threshold == members[0].threshold


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real DRRs are not at {SHARED}")
def test_the_shipped_weights_find_what_their_card_says(tmp_path: Path) -> None:
    words = ["checkpoint=pretrained", "data=lidc_drr", f"data.root={SHARED}", "split=val"]
    words += ["accelerator=cpu", "n_pictures=0", f"output_dir={tmp_path}"]
    assert main(["evaluate", *words]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert (found["n_cases"], found["n_positive"]) == (89, 82)
    assert found["n_cases_seen_in_training"] == 0
    assert found["dice_positive"] == pytest.approx(0.1750, abs=0.005)
    assert found["attention_gt_overlap"] == pytest.approx(0.6665, abs=0.01)
