"""Volumes whose projections are known, and files of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from attnseg.config.compose import compose
from attnseg.config.drr import DrrConfig, ProjectionConfig
from attnseg.imaging.drr.volume import Volume
from tests.conftest import restore_locale

Array = np.ndarray[Any, Any]


def volume(
    voxels: Array,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    centre: Sequence[float] = (0.0, 0.0, 0.0),
    turn: Array | None = None,
) -> Volume:
    """A volume around a point; spacing along z, y, x; `turn` rotates its axes in the patient."""
    steps = np.diag(spacing)[:, ::-1]  # z, y and x are the third, second and first axis of LPS
    steps = steps if turn is None else steps @ turn.T
    middle = (np.array(voxels.shape) - 1.0) / 2.0
    return Volume(voxels, np.array(centre) - middle @ steps, steps)


@lru_cache
def projection(name: str, *overrides: str) -> ProjectionConfig:
    """One of conf/projection/, changed."""
    words = [f"projection={name}", "ct=a", "out=b", *overrides]
    return ProjectionConfig.model_validate(compose("drr", words, DrrConfig)["projection"])


def chest(shape: tuple[int, int, int] = (20, 24, 28), seed: int = 0) -> tuple[Array, Array]:
    """HU (int16) of a body with lungs, and a mask with two nodules (uint8)."""
    rng = np.random.default_rng(seed)
    hu = np.full(shape, -1000, np.int16)
    z, y, x = shape
    hu[:, y // 6 : -y // 6, x // 8 : -x // 8] = 40
    hu[3:-3, y // 4 : -y // 4, x // 5 : x // 2 - 1] = -850
    hu[3:-3, y // 4 : -y // 4, x // 2 + 2 : -x // 5] = -850
    hu[:, -y // 4 : -y // 5, x // 2 - 2 : x // 2 + 2] = 700
    hu += rng.integers(-20, 20, shape).astype(np.int16)
    mask = np.zeros(shape, np.uint8)
    mask[z // 2 : z // 2 + 3, y // 2 : y // 2 + 3, x // 4 : x // 4 + 3] = 1
    mask[z // 3 : z // 3 + 2, y // 3 : y // 3 + 2, -x // 4 : -x // 4 + 2] = 1
    hu[mask > 0] = 60
    return hu, mask


def image(
    voxels: Array,
    spacing: tuple[float, float, float] = (0.8, 0.8, 2.0),
    origin: tuple[float, float, float] = (-10.0, 20.0, -300.0),
) -> sitk.Image:
    """A SimpleITK image; spacing along x, y, z."""
    made = sitk.GetImageFromArray(voxels)
    made.SetSpacing(spacing)
    made.SetOrigin(origin)
    return made


def write(path: Path, voxels: Array, **where: Any) -> Path:
    """A volume file of the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image(voxels, **where), str(path))
    return path


def write_series(
    folder: Path,
    voxels: Array,
    uid: str = "1.2.3",
    skip: Sequence[int] = (),
    shift_y: float = 0.0,
    spacing: tuple[float, float, float] = (0.8, 0.8, 2.0),
    origin: tuple[float, float, float] = (-10.0, 20.0, -300.0),
    tags: dict[str, str] | None = None,
) -> Path:
    """A DICOM series of somebody; file names are in no order. `shift_y` a slice tilts it."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(len(voxels)):
        if number in skip:
            continue
        one = sitk.GetImageFromArray(voxels[number : number + 1])
        one.SetSpacing(spacing)
        x, y, z = origin[0], origin[1] + shift_y * number, origin[2] + spacing[2] * number
        header = {
            "0008|0060": "CT",
            "0008|0018": f"{uid}.{number + 1}",
            "0010|0010": "MUSTERMANN^ERIKA",
            "0010|0020": "PID-4711",
            "0010|0030": "19640812",
            "0008|0080": "ST. ELSEWHERE",
            "0020|000d": "1.2.840.99",
            "0020|000e": uid,
            "0020|0013": str(number + 1),
            "0020|0032": f"{x}\\{y}\\{z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "0",
            "0028|1053": "1",
            **(tags or {}),
        }
        for key, value in header.items():
            one.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}_{(7 * number) % 23:03d}_{number}.dcm"))
        writer.Execute(one)
    restore_locale()
    return folder
