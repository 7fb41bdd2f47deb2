"""JSRT, NODE21 and ChestX-Det as data sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.paths import conf_dir
from attnseg.config import (
    SplitConfig,
    TrainConfig,
)
from attnseg.config.compose import compose_checked
from attnseg.data.check import check_data
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.data.sources import build_source
from attnseg.data.sources.base import Source
from attnseg.data.sources.chestx_det import ChestXDetSource
from attnseg.data.sources.jsrt import JsrtSource, read_img
from attnseg.data.sources.node21 import Node21Source
from attnseg.data.splits import make_splits
from attnseg.imaging.images import write_image
from tests.conftest import data_section
from tests.imaging.annotations.formats import (
    CLNDAT,
    chestx_det,
    chestx_entry,
    clndat,
    jsrt,
    jsrt_img,
    node21,
)


def _jsrt(root: Path, **options: Any) -> JsrtSource:
    return JsrtSource(root=str(root), **options)


def _node21(root: Path, **options: Any) -> Node21Source:
    return Node21Source(root=str(root), **options)


def _chestx(root: Path, **options: Any) -> ChestXDetSource:
    return ChestXDetSource(root=str(root), **options)


def test_a_jsrt_image_is_turned_and_its_nodule_a_disc(tmp_path: Path) -> None:
    source = _jsrt(jsrt(tmp_path))
    assert isinstance(source, Source)
    assert source.problems() == []
    nodule, clear = source.cases()
    assert (nodule.case_id, nodule.patient_id) == ("JPCLN001", "JPCLN001")
    assert (nodule.pairing, nodule.mask_kind, nodule.drr) == ("unpaired", "surrogate", None)
    images = source.load(nodule)
    raw = np.fromfile(tmp_path / "All247images" / "JPCLN001.IMG", ">u2").reshape(2048, 2048)
    np.testing.assert_array_equal(images.xray, 4095 - raw)
    assert images.drr is images.xray
    assert images.spacing == (0.175, 0.175)
    rows, columns = np.nonzero(images.mask)
    assert (round(rows.mean()), round(columns.mean())) == (692, 1634)
    area_mm2 = images.mask.sum() * 0.175**2
    assert area_mm2 == pytest.approx(np.pi * 7.5**2, rel=0.01)  # 15 mm across
    assert not source.load(clear).mask.any()
    assert source.record["pairing"] == {"unpaired": 2}
    assert yaml.safe_load(yaml.safe_dump(source.record)) == source.record


def test_jsrt_as_png_of_another_size(tmp_path: Path) -> None:
    side = 256
    pixels = np.random.default_rng(0).integers(0, 255, (side, side)).astype(np.uint8)
    write_image(tmp_path / "JPCLN001.png", pixels)
    clndat(tmp_path / "CLNDAT_EN.txt")
    source = _jsrt(tmp_path)
    (case,) = source.cases()
    images = source.load(case)
    np.testing.assert_array_equal(images.xray, pixels)
    assert images.spacing == (1.4, 1.4)
    rows, columns = np.nonzero(images.mask)
    assert (rows.mean(), columns.mean()) == pytest.approx((692.5 / 8, 1634.5 / 8), abs=0.7)
    turned = _jsrt(tmp_path, png_inverted=True)
    np.testing.assert_array_equal(turned.load(case).xray, 255 - pixels)
    assert turned.fingerprint(case) != source.fingerprint(case)
    write_image(tmp_path / "JPCLN001.png", pixels[:200])
    with pytest.raises(DataError, match="200 x 256 px; JSRT's images are square"):
        source.load(case)


def test_jsrt_prefers_the_original_to_a_png_beside_it(tmp_path: Path) -> None:
    root = jsrt(tmp_path)
    write_image(root / "png" / "jpcln001.png", np.eye(8, dtype=np.uint8))
    source = _jsrt(root)
    assert source.problems() == []
    assert [case.xray and case.xray.suffix for case in source.cases()] == [".IMG", ".IMG"]


def test_a_broken_img(tmp_path: Path) -> None:
    path = tmp_path / "JPCLN001.IMG"
    raw = jsrt_img(path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match="8388606 bytes, but an image of 2048 x 2048"):
        read_img(path)
    path.write_bytes(raw.astype("<u2").tobytes())
    with pytest.raises(DataError, match="but 12 bits end at 4095; its bytes are swapped"):
        read_img(path)
    with pytest.raises(DataError, match="no such file"):
        read_img(tmp_path / "none.IMG")


def test_jsrt_s_problems_come_at_once(tmp_path: Path) -> None:
    root = jsrt(tmp_path)
    (root / "Nodule154images").mkdir()
    (root / "Nodule154images" / "JPCNN001.IMG").write_bytes(b"")
    (root / "All247images" / "JPCLN009.IMG").write_bytes(b"")
    problems = _jsrt(root).problems()
    assert len(problems) == 2
    assert "no record of JPCLN009" in problems[0]
    assert "JPCNN001: duplicate case" in problems[1]


def test_a_root_that_is_no_jsrt(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.root is not set"):
        build_source(data_section(name="jsrt"))
    with pytest.raises(ConfigError, match="no such folder"):
        _jsrt(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"no CLNDAT_EN.txt below it"):
        _jsrt(tmp_path)
    with pytest.raises(ConfigError, match=r"data.table=.*no such file"):
        _jsrt(tmp_path, table=str(tmp_path / "t.txt"))
    clndat(tmp_path / "clndat_en.TXT", CLNDAT)
    with pytest.raises(DataError, match="no JPCLNnnn or JPCNNnnn image"):
        _jsrt(tmp_path)


def test_node21_s_boxes(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "set"
    folder.mkdir(parents=True)
    source = _node21(node21(folder))
    assert isinstance(source, Source)
    assert source.problems() == []
    cases = source.cases()
    assert [case.case_id for case in cases] == [f"n{i:04d}" for i in range(6)]
    images = source.load(cases[1])
    assert images.spacing == (0.3, 0.3)
    assert images.mask[30:42, 21:37].all()
    assert images.mask.sum() == 12 * 16
    assert not source.load(cases[0]).mask.any()
    round_one = _node21(folder, mask="ellipse")
    assert round_one.load(cases[1]).mask.sum() < 12 * 16
    assert round_one.fingerprint(cases[1]) != source.fingerprint(cases[1])
    assert _node21(tmp_path).cases() == cases  # the folder around will do


def test_node21_s_problems_come_at_once(tmp_path: Path) -> None:
    rows = ["n0000.mha,0,0,0,0,0", "n0001.mha,1,9,9,70,70", "gone.mha,1,9,9,3,3"]
    source = _node21(node21(tmp_path, rows))
    (problem,) = source.problems()
    assert "gone.mha: no image of this name" in problem
    assert source.record["n_images_without_row"] == 4
    with pytest.raises(DataError, match=r"n0001.mha: lesion line 3: its box lies outside"):
        source.load(source.cases()[1])
    findings = check_data(
        data_section(name="node21", root=str(tmp_path), size=64), workers=0, progress=False
    )
    text = "\n".join(map(str, findings))
    assert "error:" in text
    assert "gone.mha" in text
    assert "its box lies outside; the image has 64 x 64 px" in text
    assert "warning: the masks of 2 of 2 cases (n0000, n0001) are surrogates" in text


def test_a_root_that_is_no_node21(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no metadata.csv below it"):
        _node21(tmp_path)
    (tmp_path / "metadata.csv").write_text("img_name,label,height,width,x,y\n")
    with pytest.raises(DataError, match="has no rows"):
        _node21(tmp_path)


def test_chestx_det_s_polygons_patients_and_split(tmp_path: Path) -> None:
    train = [
        chestx_entry(f"{i:08d}_00{i}.png", ["Nodule"] if i % 2 else ["Effusion"]) for i in (1, 2)
    ]
    root = chestx_det(tmp_path, train, [chestx_entry("00000003_000.png", ["Mass"])])
    source = _chestx(root)
    assert source.problems() == []
    first, second, third = source.cases()
    assert (first.case_id, first.patient_id, first.split) == ("00000001_001", "00000001", "train")
    assert third.split == "test"
    assert source.load(first).mask.sum() == 11 * 13
    assert not source.load(second).mask.any()
    assert _chestx(root, labels=["Effusion"]).load(second).mask.any()
    assert _chestx(root, mask="box").load(first).mask.sum() == 11 * 13
    splits = make_splits(source.cases(), SplitConfig(kind="fixed"))
    assert (len(splits.train), len(splits.test)) == (2, 1)
    with pytest.raises(ConfigError, match=r"data.labels: no finding named Nodul"):
        _chestx(root, labels=["Nodul"])


def test_chestx_det_s_patient_in_both_files_is_a_leak(tmp_path: Path) -> None:
    train = [chestx_entry("00000001_000.png"), chestx_entry("00000002_000.png", ["Nodule"])]
    root = chestx_det(tmp_path, train, [chestx_entry("00000001_001.png")])
    with pytest.raises(DataError, match="patient 00000001: in test and train"):
        make_splits(_chestx(root).cases(), SplitConfig(kind="fixed"))


def test_chestx_det_s_problems_come_at_once(tmp_path: Path) -> None:
    root = chestx_det(tmp_path, [chestx_entry("00000001_000.png", ["Nodule"])])
    entries = '[{"file_name": "00000009_000.png", "syms": [], "boxes": []}]'
    (root / "ChestX_Det_test.json").write_text(entries)
    (problem,) = _chestx(root).problems()
    assert "00000009_000.png: no image of this name" in problem
    (root / "ChestX_Det_test.json").write_text("[")
    assert "no JSON" in _chestx(root).problems()[0]
    with pytest.raises(ConfigError, match=r"no ChestX_Det_train.json"):
        _chestx(tmp_path / "train_data")


@pytest.mark.parametrize(
    "name", ["jsrt", "node21", "chestx_det", "lidc_drr", "manifest", "phantom"]
)
def test_the_shipped_config_is_the_schema_s_defaults(name: str) -> None:
    values = yaml.safe_load((conf_dir() / "data" / f"{name}.yaml").read_text())
    shipped, default = (
        c.model_dump(mode="json") for c in (data_section(**values), data_section(name=name))
    )
    assert shipped == default
    assert set(values) == set(default)


def test_a_run_s_batches_and_record_come_from_node21(tmp_path: Path) -> None:
    overrides = ["data=node21", f"data.root={node21(tmp_path)}", "data.size=64"]
    config = compose_checked("train", overrides, TrainConfig)
    module = AttnSegDataModule(config, progress=False)
    module.setup("fit")
    batch = next(iter(module.val_dataloader()))
    assert torch.equal(batch["xray"], batch["drr"])  # the X-ray serves both pathways
    record = module.record["source"]
    assert record["pairing"] == {"unpaired": 6}
    assert record["mask_kind"] == {"surrogate": 6}
    assert record["n_drr_from_xray"] == 6
