"""Guards that count what a start on a filled cache asks of the file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnseg.data import cache as cache_module
from attnseg.data import record
from attnseg.data.datamodule import AttnSegDataModule
from tests.conftest import configure


def test_a_start_reads_each_entrys_first_page_once_and_no_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(tmp_path, f"data.cache_dir={tmp_path / 'cache'}")
    AttnSegDataModule(config, progress=False).prepare_data()
    heads: list[object] = []

    def counted(path: Path) -> record.Head:
        heads.append(path)
        return record.read_head(path)

    monkeypatch.setattr(cache_module, "read_head", counted)
    monkeypatch.setattr(cache_module, "map_record", lambda *_: pytest.fail("pixels are read"))
    module = AttnSegDataModule(config, progress=False)
    module.prepare_data()
    module.setup("fit")
    assert module.record["splits"]
    assert len(module.train_dataloader())
    assert len(heads) == len(set(heads)) == len(module.all_cases)
