from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import yaml
from scipy import ndimage

from attnseg.common.errors import ConfigError
from attnseg.data.sources import build_source
from attnseg.data.sources import phantom as reader
from attnseg.data.sources.base import Source
from attnseg.data.sources.phantom import PhantomSource
from attnseg.imaging.case import Case, CaseImages
from tests.conftest import data_section


def _source(**changes: object) -> PhantomSource:
    return PhantomSource(**{"size": 64, "n_cases": 8, **changes})


def _bytes(images: CaseImages) -> bytes:
    return images.drr.tobytes() + images.xray.tobytes() + images.mask.tobytes()


def _load_elsewhere(source: PhantomSource, case: Case) -> bytes:
    return _bytes(source.load(case))


def test_cases_are_named_by_seed_and_index_each_a_patient() -> None:
    source = _source(seed=4)
    assert isinstance(source, Source)
    cases = source.cases()
    assert [c.case_id for c in cases] == [f"phantom-4-{i:05d}" for i in range(8)]
    assert all(c.patient_id == c.case_id and c.split is None and c.drr is None for c in cases)
    assert {c.spacing for c in cases} == {(350.0 / 64, 350.0 / 64)}
    assert source.problems() == []


def test_images_fit_the_contract() -> None:
    source = _source()
    for case in source.cases()[:3]:
        images = source.load(case)
        assert images.drr.shape == images.xray.shape == images.mask.shape == (64, 64)
        assert images.spacing == case.spacing
        for picture in (images.drr, images.xray):
            assert picture.dtype == np.float32
            assert np.isfinite(picture).all()
            assert 0.0 <= picture.min() < 0.1
            assert 0.8 < picture.max() <= 1.0
        assert set(np.unique(images.mask)) <= {0, 1}


def test_drr_and_xray_show_the_same_patient_differently() -> None:
    source = _source()
    cases = source.cases()
    loaded = [source.load(case) for case in cases[:4]]
    for images in loaded:
        own = np.corrcoef(images.drr.ravel(), images.xray.ravel())[0, 1]
        assert 0.6 < own < 0.99
    assert np.abs(loaded[0].drr - loaded[1].drr).mean() > 0.02


def test_a_case_depends_on_neither_order_nor_process_nor_n_cases() -> None:
    source, larger = _source(), _source(n_cases=40)
    cases = source.cases()[:3]
    here = [_bytes(source.load(case)) for case in cases]
    assert [_bytes(larger.load(case)) for case in reversed(cases)] == here[::-1]
    assert _bytes(pickle.loads(pickle.dumps(source)).load(cases[0])) == here[0]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(_load_elsewhere, [source] * 3, cases)) == here


def test_positive_is_known_without_generating() -> None:
    source = _source(n_cases=12, negative_fraction=0.4)
    truth = [bool(source.load(case).mask.any()) for case in source.cases()]
    assert [source.is_positive(case) for case in source.cases()] == truth
    assert 0 < sum(truth) < 12


def test_every_positive_has_a_mask_however_small_its_nodules() -> None:
    source = _source(negative_fraction=0.0, diameter_mm=(1.0, 1.5), max_nodules=1)
    assert all(source.load(case).mask.any() for case in source.cases()[:4])


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"size": 96},
        {"negative_fraction": 0.2},
        {"max_nodules": 2},
        {"diameter_mm": (8.0, 29.0)},
        {"contrast_hu": (600.0, 950.0)},
    ],
)
def test_fingerprint_changes_with_whatever_changes_the_images(change: dict[str, object]) -> None:
    plain, other = _source(), _source(**change)
    assert plain.fingerprint(plain.cases()[0]) != other.fingerprint(other.cases()[0])


def test_fingerprint_ignores_what_changes_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    source, larger = _source(), _source(n_cases=99)
    case, other = source.cases()[:2]
    before = source.fingerprint(case)
    assert before == larger.fingerprint(case) == _source().fingerprint(case)
    assert before != source.fingerprint(other)
    monkeypatch.setattr(reader, "GENERATOR_VERSION", reader.GENERATOR_VERSION + 1)
    assert before != source.fingerprint(case)


def test_what_a_key_generates_changes_only_with_the_generators_version() -> None:
    """If this fails, raise GENERATOR_VERSION and take over the new figures: caches must expire."""
    pinned = {  # means of DRR, X-ray and their product, and pixels of the mask
        2: [
            (0.4428, 0.4776, 0.2776, 10),
            (0.4727, 0.4116, 0.2530, 11),
            (0.4590, 0.4617, 0.2751, 6),
        ],
    }
    source = _source()
    for case, expected in zip(source.cases(), pinned[reader.GENERATOR_VERSION], strict=False):
        images = source.load(case)
        drr, xray, mask = images.drr, images.xray, images.mask
        found = (drr.mean(), xray.mean(), (drr * xray).mean(), mask.sum())
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_nodules_stand_out_mostly_but_not_always() -> None:
    source = _source(size=128, n_cases=10, negative_fraction=0.0)
    drr, xray = [], []
    for case in source.cases():
        images = source.load(case)
        labels, count = ndimage.label(images.mask)
        for label in range(1, count + 1):
            inside = labels == label
            near = ndimage.binary_dilation(inside, iterations=4) & (images.mask == 0)
            near &= ~ndimage.binary_dilation(inside)
            for picture, found in ((images.drr, drr), (images.xray, xray)):
                found.append((picture[inside].mean() - picture[near].mean()) / picture[near].std())
    assert np.median(drr) > 0.8
    assert np.median(xray) > 0.4
    assert min(drr) < 0.5


def test_a_case_of_another_seed_is_refused() -> None:
    with pytest.raises(AssertionError, match="phantom-9-00000"):
        _source().load(_source(seed=9).cases()[0])


@pytest.mark.parametrize(
    "change",
    [
        {"diameter_mm": (30.0, 8.0)},
        {"diameter_mm": (0.0, 8.0)},
        {"diameter_mm": (8.0, 90.0)},
        {"contrast_hu": (-5.0, 9.0)},
        {"seed": -1},
        {"size": 48},
        {"max_nodules": 0},
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises((ValueError, ConfigError), match=next(iter(change))):
        build_source(data_section(**{"name": "phantom", "size": 64, **change}))


def test_record_is_plain_and_names_the_xrays_origin() -> None:
    record = _source().record
    assert yaml.safe_load(yaml.safe_dump(record)) == record
    assert record["name"] == "phantom"
    assert "same phantom" in record["xray"]
