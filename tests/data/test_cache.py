from __future__ import annotations

import mmap
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.parallel import for_each
from attnseg.common.paths import cache_folder
from attnseg.data.cache import DecodedCache
from attnseg.imaging.case import Case

Make = Callable[..., Any]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_case_is_decoded_once_whoever_asks(memory_source: Make, tmp_path: Path) -> None:
    source = memory_source(3)
    cache = DecodedCache(source, 64, tmp_path)
    for _ in range(3):
        for case in source.cases():
            cache.get(case)
    assert sorted(source.loaded) == ["case0", "case1", "case2"]
    again = memory_source(3)
    second = DecodedCache(again, 64, tmp_path)
    assert second.get(again.cases()[0]).n_foreground == 36
    assert again.loaded == []


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_comes_back_is_what_was_decoded(
    memory_source: Make, tmp_path: Path, dtype: type
) -> None:
    source = memory_source(2, dtype=dtype)
    case = source.cases()[0]
    images = source.load(case)
    cache = DecodedCache(source, 64, tmp_path)
    for decoded in (cache.get(case), cache.get(case)):  # as built, and as read
        np.testing.assert_array_equal(decoded.xray, images.xray)
        np.testing.assert_array_equal(decoded.drr, images.drr)
        np.testing.assert_array_equal(decoded.mask, images.mask)
        assert decoded.drr.dtype == dtype
        assert decoded.spacing == (0.5, 0.5)
        assert decoded.mean[1] == pytest.approx(images.drr.mean(dtype=np.float64))
        assert decoded.std[0] == pytest.approx(images.xray.std(dtype=np.float64))


def test_it_is_read_through_a_memory_map(memory_source: Make, tmp_path: Path) -> None:
    source = memory_source(1)
    cache = DecodedCache(source, 64, tmp_path)
    cache.get(source.cases()[0])
    view: Any = cache.get(source.cases()[0]).drr
    assert not view.flags.writeable
    while isinstance(view, np.ndarray):
        view = view.base
    assert isinstance(view.obj if isinstance(view, memoryview) else view, mmap.mmap)
    (path,) = _files(tmp_path)
    assert path.stat().st_size < 3 * 48 * 64 + 600  # a byte a pixel


@pytest.mark.parametrize(("name", "pixels"), [("a.mha", "a.mha"), ("a.mhd", "a.raw")])
def test_a_file_overwritten_in_place_is_decoded_again(
    tmp_path: Path, name: str, pixels: str
) -> None:
    """Though its size is the same and its time of change is put back; a header's pixels, too."""
    from attnseg.data.sources.manifest import ManifestSource
    from tests.data.test_digest import write_pair

    table = tmp_path / "set" / "manifest.csv"
    table.parent.mkdir()
    table.write_text(f"case,patient,xray,drr,mask\na,b,{name},,none\n")
    file = table.with_name(pixels)
    found = []
    for grey in (3, 9):
        before = file.stat() if file.exists() else None
        write_pair(table.with_name(name), np.full((32, 32), grey, np.uint8))
        if before is not None:
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert file.stat().st_size == before.st_size
        source = ManifestSource(root=str(table))
        found.append(DecodedCache(source, 32, tmp_path / "cache").get(source.cases()[0]).drr)
    assert [int(drr.max()) for drr in found] == [3, 9]


@pytest.mark.parametrize("one_image", [True, False])
def test_an_image_that_serves_both_pathways_is_read_once(
    memory_source: Make, tmp_path: Path, one_image: bool
) -> None:
    source = memory_source(1)
    case = source.cases()[0]
    images = source.load(case)
    xray = images.drr.copy() if one_image else images.xray
    source.load = lambda case: type(images)(xray, images.drr, images.mask)
    built = DecodedCache(source, 64, tmp_path)
    other_process = DecodedCache(source, 64, tmp_path)
    for decoded in (built.get(case), built.get(case), other_process.get(case)):
        assert (decoded.xray is decoded.drr) == one_image
        np.testing.assert_array_equal(decoded.xray, xray)
        np.testing.assert_array_equal(decoded.drr, images.drr)


def test_another_size_or_fingerprint_is_another_entry(memory_source: Make, tmp_path: Path) -> None:
    source = memory_source(1)
    case = source.cases()[0]
    assert DecodedCache(source, 64, tmp_path).get(case).drr.shape == (48, 64)
    small = DecodedCache(source, 32, tmp_path).get(case)
    assert small.drr.shape == (24, 32)
    assert small.spacing == (1.0, 1.0)
    source.version = "2"
    DecodedCache(source, 64, tmp_path).get(case)
    assert len(source.loaded) == 3
    assert len(_files(tmp_path)) == 3


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_damaged_entry_is_built_again(
    memory_source: Make, tmp_path: Path, data: st.DataObject
) -> None:
    source = memory_source(1, (8, 10))
    case = source.cases()[0]
    whole = DecodedCache(source, 32, tmp_path).get(case)
    (path,) = _files(tmp_path)
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, 9999)) % len(raw)
    if data.draw(st.booleans()):
        raw = raw[:place]
    else:
        raw[place] ^= data.draw(st.integers(1, 255))
    path.unlink()  # not in place: `whole` maps the old file
    path.write_bytes(raw)
    again = DecodedCache(source, 32, tmp_path).get(case)
    np.testing.assert_array_equal(again.drr, whole.drr)
    np.testing.assert_array_equal(again.mask, whole.mask)
    assert (again.mean, again.std, again.spacing) == (whole.mean, whole.std, whole.spacing)


def test_a_damaged_layout_is_seen_too(memory_source: Make, tmp_path: Path) -> None:
    source = memory_source(1)
    DecodedCache(source, 64, tmp_path).get(source.cases()[0])
    (path,) = _files(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"'|u1'", b"'|i1'", 1))  # the same bytes, signed
    assert DecodedCache(source, 64, tmp_path).get(source.cases()[0]).drr.dtype == np.uint8
    assert len(source.loaded) == 2


def test_nothing_is_left_behind_when_writing_fails(
    memory_source: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = memory_source(1)
    cache = DecodedCache(source, 64, tmp_path)

    def full(stream: Any, record: Any) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ConfigError, match=r"cannot be written \(No space left.*data.cache_dir="):
        cache.get(source.cases()[0])
    assert _files(tmp_path) == []


def test_a_cache_that_cannot_be_written_says_what_to_set(
    memory_source: Make, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    source = memory_source(20)
    with pytest.raises(ConfigError, match=r"data.cache_dir="):
        DecodedCache(source, 64, tmp_path / "file").warm(source.cases(), progress=False)


def test_warming_in_processes_gives_the_same_and_decodes_nothing_later(
    memory_source: Make, tmp_path: Path
) -> None:
    source = memory_source(20)
    cache = DecodedCache(source, 32, tmp_path / "many")
    cache.warm(source.cases(), workers=2, progress=False)
    alone = DecodedCache(source, 32, tmp_path / "one")
    alone.warm(source.cases(), workers=0, progress=False)
    assert len(source.loaded) == 20  # the processes counted their own
    for case in source.cases():
        np.testing.assert_array_equal(cache.get(case).drr, alone.get(case).drr)
    assert len(source.loaded) == 20
    cache.warm(source.cases(), progress=False)
    assert len(source.loaded) == 20


def test_two_processes_may_build_the_same_entry(memory_source: Make, tmp_path: Path) -> None:
    source = memory_source(2)
    cases = source.cases() * 30
    for_each(_Get(source, tmp_path), cases, description="", workers=2, progress=False)
    assert len(_files(tmp_path)) == 2  # and no temporary file is left
    again = memory_source(2)
    DecodedCache(again, 64, tmp_path).warm(again.cases(), progress=False)
    assert again.loaded == []


class _Get:
    """Each call comes to a cache of its own, as another program would."""

    def __init__(self, source: Any, folder: Path) -> None:
        self.source, self.folder = source, folder

    def __call__(self, case: Case) -> int:
        return DecodedCache(self.source, 64, self.folder).get(case).n_foreground


@pytest.mark.parametrize("workers", [0, 2])
def test_all_bad_cases_are_listed_at_once(
    memory_source: Make, tmp_path: Path, workers: int
) -> None:
    source = memory_source(20)
    source.broken = {"case3", "case11"}
    cache = DecodedCache(source, 32, tmp_path)
    with pytest.raises(DataError) as caught:
        cache.warm(source.cases(), workers=workers, progress=False)
    assert caught.value.problems == ["case3: is broken", "case11: is broken"]
    assert len(_files(tmp_path)) == 18


def test_non_finite_pixels_never_get_in(memory_source: Make, tmp_path: Path) -> None:
    source = memory_source(1, dtype=np.float32)
    images = source.load(source.cases()[0])
    images.drr[3, 3] = np.inf
    source.load = lambda case: images
    with pytest.raises(DataError, match="case0: its drr has NaN or infinite"):
        DecodedCache(source, 64, tmp_path).get(source.cases()[0])


def test_entries_can_be_read_by_others(memory_source: Make, tmp_path: Path) -> None:
    source = memory_source(1)
    DecodedCache(source, 64, tmp_path).get(source.cases()[0])
    (tmp_path / "plain").write_text("")
    (path,) = _files(tmp_path / "decoded")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_the_folder_is_configured_or_in_the_environment_or_at_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cache_folder("/data/cache") == Path("/data/cache")
    monkeypatch.setenv("ATTNSEG_CACHE", "/env/cache")
    assert cache_folder(None) == Path("/env/cache")
    monkeypatch.delenv("ATTNSEG_CACHE")
    assert cache_folder(None) == Path.home() / ".cache" / "attnseg"


def test_importing_the_room_is_light() -> None:
    code = (
        "import sys, attnseg.data, attnseg.imaging.images, attnseg.data.sources; "
        "heavy = {'SimpleITK', 'matplotlib', 'torch', 'monai', 'pytorch_lightning'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
