"""Small data sets on disk and in memory for the tests of the data room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from attnseg.common.errors import DataError
from attnseg.imaging.case import Case, CaseContent, CaseImages
from attnseg.imaging.images import write_image

# A first call imports MONAI, and the machine is shared: time says nothing about the law.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


class MemorySource:
    """Cases made from their number; counts what is decoded."""

    def __init__(
        self, n: int = 10, shape: tuple[int, int] = (48, 64), dtype: Any = np.uint8
    ) -> None:
        self.n, self.shape, self.dtype = n, shape, dtype
        self.loaded: list[str] = []
        self.broken: set[str] = set()
        self.version = "1"
        self.record: dict[str, Any] = {"name": "memory"}

    def cases(self) -> list[Case]:
        return [Case(f"case{i}", f"patient{i}", spacing=(0.5, 0.5)) for i in range(self.n)]

    def load(self, case: Case) -> CaseImages:
        self.loaded.append(case.case_id)
        if case.case_id in self.broken:
            raise DataError("unusable", [f"{case.case_id}: is broken"])
        number = int(case.case_id.removeprefix("case"))
        rng = np.random.default_rng(number)
        drr = (rng.random(self.shape) * 200 + number).astype(self.dtype)
        mask = np.zeros(self.shape, np.uint8)
        if number % 2 == 0:  # even cases are positive
            mask[10:16, 20 + number : 26 + number] = 1
        return CaseImages(np.ascontiguousarray(drr[::-1]), drr, mask, case.spacing)

    def fingerprint(self, case: Case) -> str:
        return f"memory|{self.version}|{self.shape}|{np.dtype(self.dtype)}|{case.case_id}"

    def content(self, case: Case) -> CaseContent:
        return CaseContent(parameters=self.version)

    def problems(self) -> list[str]:
        return []


@pytest.fixture
def memory_source() -> Callable[..., MemorySource]:
    """Makes a source of cases in memory."""
    return MemorySource


@pytest.fixture
def lidc_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder in the layout of lidc_drr and returns its root."""

    def make(n: int = 6, shape: tuple[int, int] = (40, 64), root: str = "LIDC_LDRI") -> Path:
        folder = tmp_path / root
        rows = ["drr_file,patient_id,pixel_spacing_mm"]
        for i in range(n):
            name = f"LIDC-IDRI-{i + 1:04d}_scan  {i}"
            part = folder / ("1-200" if i % 2 == 0 else "201-400")
            rng = np.random.default_rng(i)
            write_image(part / f"{name}_drr.png", rng.integers(0, 255, shape).astype(np.uint8))
            mask = np.zeros(shape, np.uint8)
            if i != 1:
                mask[10:14, 20:25] = 255
            write_image(part / f"{name}_drr_mask.png", mask)
            rows.append(f"{name}_drr.png,LIDC-IDRI-{i + 1:04d},0.{i + 5}")
        (tmp_path / "scans.csv").write_text("\n".join(rows))
        return folder

    return make
