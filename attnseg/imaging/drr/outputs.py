"""What `attnseg drr` leaves: a folder a case, whole or not there; a manifest; what was done.

out/manifest.csv                     data=manifest data.root=out reads it
out/contact_sheet.png
out/<case>/<case>_<view>_drr.png     8 or 16 bit, dense tissue bright
out/<case>/<case>_<view>_mask.png    0 and 255
out/<case>/<case>_<view>_thickness.png   16 bit, hundredths of a millimetre
out/<case>/<case>_<view>_labels.png  a nodule's number; where two overlap, the thicker one's
out/<case>/<case>_<view>.json        geometry, projection, nodules: see `Geometry.from_record`
out/<case>/case.json                 what the case was made of, and with
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from attnseg import __version__
from attnseg.common.errors import ConfigError
from attnseg.common.files import csv_text, make_folder, replace_folder, write_json, write_text
from attnseg.config.drr import DrrConfig
from attnseg.imaging.drr.jobs import Job
from attnseg.imaging.drr.masks import describe_nodules
from attnseg.imaging.drr.views import Projection
from attnseg.imaging.drr.volume import Array, Volume
from attnseg.imaging.images import write_image

PROJECTOR_VERSION = 1
"""To be raised with every change of what a configuration gives: done cases are then redone."""

COLUMNS = ("case", "patient", "xray", "drr", "mask", "spacing", "scan", "view")
THICKNESS_UNIT_MM = 0.01
_TEMPORARY = ".writing-"
_SHAPING = {
    "projection", "masks", "series", "check_hu", "bits", "write",
}  # fmt: skip


def recipe_key(config: DrrConfig, job: Job) -> str:
    """A hash of everything that shapes a case's outputs: configuration, input, names, version."""
    content = {
        "version": PROJECTOR_VERSION,
        "config": config.model_dump(mode="json", include=_SHAPING),
        "input": job.fingerprint,
        "names": [job.case, job.patient, job.healthy],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def done_rows(out: Path, config: DrrConfig, job: Job) -> list[dict[str, str]] | None:
    """The manifest's rows of a case that is there, made of the same input in the same way."""
    folder = out / job.case
    try:
        record = json.loads((folder / "case.json").read_text())
        rows: list[dict[str, str]] = record["rows"]
        whole = all((folder / name).is_file() for name in record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rows if whole and record.get("key") == recipe_key(config, job) else None


def write_case(
    out: Path,
    config: DrrConfig,
    job: Job,
    ct: Volume,
    nodules: Volume | None,
    projections: Sequence[Projection],
) -> list[dict[str, str]]:
    """Write a case beside its place, then move it there; returns its rows of the manifest."""
    folder = out / f"{_TEMPORARY}{job.case}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        rows = [
            _write_view(folder, config, job, ct, nodules, projection) for projection in projections
        ]
        files = sorted(path.name for path in folder.iterdir())
        record = {"key": recipe_key(config, job), "rows": rows, "files": files}
        write_json(folder / "case.json", record)
        replace_folder(folder, out / job.case)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return rows


def _write_view(
    folder: Path,
    config: DrrConfig,
    job: Job,
    ct: Volume,
    nodules: Volume | None,
    projection: Projection,
) -> dict[str, str]:
    stem = f"{job.case}_{projection.view.name}"
    most, dtype = (255, np.uint8) if config.bits == 8 else (65535, np.uint16)
    files = {"drr": f"{stem}_drr.png"}
    pixels = np.rint(projection.image.astype(np.float64) * most).astype(dtype)
    write_image(folder / files["drr"], pixels)
    found = projection.nodules
    if found is not None:
        for kind, values in _mask_images(config, found.mask, found.thickness, found.labels):
            files[kind] = f"{stem}_{kind}.png"
            write_image(folder / files[kind], values)
    sidecar = {
        "case": stem,
        "patient": job.patient,
        "files": files,
        "coordinates": "LPS mm: left, posterior, superior, as in the CT's DICOM",
        "spacing_mm": list(projection.geometry.spacing),
        "geometry": projection.geometry.record(),
        "volume": ct.record(),
        "view": projection.view.model_dump(mode="json"),
        "projection": config.projection.model_dump(mode="json"),
        "display_range": list(projection.shown),
        "masks": config.masks.model_dump(mode="json") if found is not None else None,
        "nodules": describe_nodules(nodules, projection.geometry, found)
        if found is not None and nodules is not None
        else None,
        "thickness_unit_mm": THICKNESS_UNIT_MM,
        "attnseg": __version__,
        "projector_version": PROJECTOR_VERSION,
    }
    write_json(folder / f"{stem}.json", sidecar)
    mask = f"{job.case}/{files['mask']}" if "mask" in files else "unlabelled"
    return {
        "case": stem,
        "patient": job.patient,
        "xray": "",
        "drr": f"{job.case}/{files['drr']}",
        "mask": "none" if job.healthy else mask,
        "spacing": "x".join(f"{side:.6g}" for side in projection.geometry.spacing),
        "scan": job.case,
        "view": projection.view.name,
    }


def _mask_images(
    config: DrrConfig, mask: Array, thickness: Array, labels: Array
) -> Iterator[tuple[str, Array]]:
    yield "mask", mask * np.uint8(255)
    if "thickness" in config.write:
        units = np.rint(thickness.astype(np.float64) / THICKNESS_UNIT_MM)
        # Where the mask is, thickness is: what would round to nothing stays the least there is.
        units = np.clip(units, mask, 65535)
        yield "thickness", units.astype(np.uint16)
    if "labels" in config.write:
        yield "labels", labels.astype(np.uint8 if labels.max() < 256 else np.uint16)


def write_manifest(out: Path, rows: Sequence[dict[str, str]]) -> Path:
    """The table that `data=manifest` reads; paths are relative to it."""
    write_text(out / "manifest.csv", csv_text(COLUMNS, rows))
    return out / "manifest.csv"


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """The folder to write to, for this process alone; what a killed one left half is removed.

    Raises:
        ConfigError: it cannot be written to, or another process is at it.
    """
    make_folder(out, "out")
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"out={out}: another `attnseg drr` is writing there; wait for it, or choose another"
            ) from None
        except OSError as error:
            print(
                f"note: out={out} is on a file system without locks ({error.strerror}); let no "
                "other `attnseg drr` write there",
                flush=True,
            )
        for path in out.iterdir():
            if path.name.startswith(_TEMPORARY):
                shutil.rmtree(path, ignore_errors=True)
        try:
            yield out
        finally:
            with suppress(OSError):
                (out / ".lock").unlink()


def refuse_foreign(out: Path, jobs: Sequence[Job], inputs: Sequence[Path]) -> None:
    """Refuse to replace what attnseg drr did not make, or to write into the input.

    Raises:
        ConfigError: a case's place holds something else, or lies within a CT's folder.
    """
    for job in jobs:
        folder = out / job.case
        if folder.exists() and not (folder / "case.json").is_file() and _has_content(folder):
            raise ConfigError(
                f"{folder}: is there already and no case of attnseg drr's; choose another out="
            )
    for path in inputs:
        if path.is_dir() and out.resolve() == path.resolve():
            raise ConfigError(f"out={out}: is the folder of the CTs itself; choose another")


def _has_content(folder: Path) -> bool:
    return not folder.is_dir() or any(folder.iterdir())


def read_sidecar(path: Path) -> dict[str, Any]:
    """A view's JSON.

    Raises:
        ConfigError: it is none.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        record["geometry"]["beam"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: no JSON that `attnseg drr` wrote beside a DRR") from None
    return record
