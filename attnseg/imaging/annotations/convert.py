"""Annotation files and CTs as mask volumes: what `attnseg data mask` does."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from attnseg.common.errors import ConfigError, DataError, UserError
from attnseg.common.files import make_folder, user_path
from attnseg.config import DataMaskConfig
from attnseg.imaging.annotations.combine import chosen, votes_needed
from attnseg.imaging.annotations.contour_table import read_contours
from attnseg.imaging.annotations.grid import Grid, read_grid
from attnseg.imaging.annotations.lidc_table import read_lidc_table
from attnseg.imaging.annotations.lidc_xml import read_lidc_xml
from attnseg.imaging.annotations.luna16 import read_luna16
from attnseg.imaging.annotations.mask_volume import read_mask_volume
from attnseg.imaging.annotations.nodule import Annotations
from attnseg.imaging.annotations.volume import annotations_to_volume, label_nodules, write_volume

Format = Literal["lidc_xml", "contours", "luna16", "lidc_table", "mask"]
_VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
_TABLES: tuple[Format, ...] = ("luna16", "lidc_table")


@dataclass(frozen=True)
class Written:
    """One mask volume that was written (or was there already, whole)."""

    path: Path
    voxels: int
    nodules: int

    def __iter__(self) -> Any:
        return iter((self.path, self.voxels, self.nodules))


def convert(config: DataMaskConfig, *, progress: bool = True) -> list[Written]:
    """Write a mask volume for every CT.

    Raises:
        ConfigError: a path is missing, or there is no such format.
        DataError: lists every CT whose annotations cannot be read or do not fit.
    """
    annotations, ct = user_path(config.annotations), user_path(config.ct)
    for key, path in (("annotations", annotations), ("ct", ct)):
        if not path.exists():
            raise ConfigError(f"{key}={path}: no such file or folder")
    cts = _cts(ct)
    out = user_path(config.out)
    if len(cts) == 1 and cts[0] == ct and _ending(out):
        targets = {ct: out}
    else:
        make_folder(out, "out")
        targets = {one: out / f"{_stem(one)}_mask.nii.gz" for one in cts}
    source = _AnnotationFiles(annotations, config)
    problems: list[str] = []
    written = []
    for one in _watched(cts, progress and len(cts) > 1):
        try:
            written.append(_convert_one(source, one, targets[one], config))
        except UserError as error:
            if len(cts) == 1:
                raise
            problems += (error.problems if isinstance(error, DataError) else []) or [str(error)]
    if problems:
        done = f"{len(written)} of {len(cts)} mask volumes were written to {out};"
        raise DataError(f"{done} with the other CTs:", list(dict.fromkeys(problems)))
    return written


def _convert_one(
    source: _AnnotationFiles, ct: Path, target: Path, config: DataMaskConfig
) -> Written:
    grid = read_grid(ct)
    name, annotations = source.of(ct, grid)
    rule = "union" if source.format_of(Path(name)) == "mask" else config.readers
    volume = annotations_to_volume(
        chosen(annotations, config.findings), grid, readers=rule, name=name
    )
    labels = label_nodules(volume)
    write_volume(target, labels if config.labels else volume, grid)
    return Written(target, int(volume.sum()), int(labels.max(initial=np.uint16(0))))


class _AnnotationFiles:
    """One annotation file for all CTs, or a folder with a file for each."""

    def __init__(self, path: Path, config: DataMaskConfig) -> None:
        self._path, self._config = path, config
        self._tables: dict[Path, dict[str, Annotations]] = {}
        self._by_name: dict[str, list[Path]] = {}
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.is_file():
                    self._by_name.setdefault(_stem(file), []).append(file)
        self._by_series: dict[str, Path] | None = None

    def of(self, ct: Path, grid: Grid) -> tuple[str, Annotations]:
        """What is said of a CT: the file's name, and its annotations.

        Raises:
            DataError: no file is of this CT, or it cannot be understood.
        """
        path = self._file(ct, grid)
        kind = self.format_of(path)
        if kind == "lidc_xml":
            return str(path), read_lidc_xml(path)
        if kind == "contours":
            return str(path), read_contours(path, self._config.scan or grid.series_uid or _stem(ct))
        if kind == "mask":
            # A volume that counts readers is asked for votes; its highest value is all we know.
            rule = self._config.readers
            level = votes_needed(rule, 255) if str(rule).isdigit() else votes_needed(rule, 1)
            return str(path), read_mask_volume(path, grid, at_least=level)
        return str(path), self._of_table(path, kind, ct, grid)

    def format_of(self, path: Path) -> Format:
        """The configured format, or the one that the file shows.

        Raises:
            ConfigError: it shows none.
        """
        if self._config.format != "auto":
            return self._config.format
        ending = _ending(path) or path.suffix.lower()
        if ending == ".xml":
            return "lidc_xml"
        if ending in _VOLUMES:
            return "mask"
        if ending in (".json", ".sqlite", ".db"):
            return "contours"
        if ending == ".csv":
            with path.open(encoding="utf-8-sig", errors="replace") as stream:
                columns = [word.strip() for word in stream.readline().split(",")]
            for column, kind in _SHOWN_BY.items():
                if column in columns:
                    return kind
        raise ConfigError(
            f"annotations={path}: in no known format; say it with format=lidc_xml, contours, "
            "luna16, lidc_table or mask"
        )

    def _file(self, ct: Path, grid: Grid) -> Path:
        if not self._path.is_dir():
            return self._path
        stem = _stem(ct)
        names = [f"{stem}{tail}" for tail in ("", "_mask", "_seg", "_annotations")]
        found = [path for name in names for path in self._by_name.get(name, []) if path != ct]
        if not found:
            series = self._series()
            wanted = [uid for uid in (grid.series_uid, stem) if uid in series]
            found = [series[uid] for uid in wanted if uid is not None]
        if not found:
            raise DataError(
                f"{ct}: no annotations of it in {self._path}; name them as the CT ({stem}.xml), or "
                "give XML of its series"
            )
        if len(found) > 1:
            shown = ", ".join(map(str, found))
            raise DataError(f"{ct}: several annotation files are of it ({shown}); keep one")
        return found[0]

    def _series(self) -> dict[str, Path]:
        """LIDC's XML files of the folder by their series."""
        if self._by_series is None:
            self._by_series = {}
            for path in (path for paths in self._by_name.values() for path in paths):
                if path.suffix.lower() == ".xml":
                    try:
                        uid = read_lidc_xml(path).series_uid
                    except DataError:  # told when a CT asks for it by name
                        continue
                    if uid is not None:
                        self._by_series[uid] = path
        return self._by_series

    def _of_table(self, path: Path, kind: Format, ct: Path, grid: Grid) -> Annotations:
        if path not in self._tables:
            reader = read_luna16 if kind == "luna16" else read_lidc_table
            self._tables[path] = reader(path)
        table = self._tables[path]
        named = [self._config.scan] if self._config.scan else [grid.series_uid, _stem(ct)]
        keys = [key for key in named if key]
        for key in keys:
            if key in table:
                return table[key]
        if self._config.scan or kind == "lidc_table":
            raise DataError(
                f"{path}: no row of scan {' or '.join(keys)} (for {ct}); add scan=<its name there>"
            )
        return Annotations((), series_uid=grid.series_uid)  # LUNA16 lists no scan without nodules


_SHOWN_BY: dict[str, Format] = {
    "diameter_mm": "luna16",
    "max_diam_mm": "lidc_table",
    "coords": "contours",
}


def _cts(path: Path) -> list[Path]:
    """One CT, or the CTs of a folder: volumes in it, and folders of DICOM files."""
    if path.is_file():
        return [path]
    volumes = [file for file in sorted(path.iterdir()) if _ending(file)]
    volumes = [file for file in volumes if not _stem(file).endswith(("_mask", "_seg"))]
    if volumes:
        return volumes
    folders = sorted(
        Path(folder)
        for folder, _, files in os.walk(path)
        if any(name.lower().endswith(".dcm") for name in files)
    )
    if not folders:
        if any(file.is_file() for file in path.iterdir()):
            return [path]  # DICOM files need no ending
        raise ConfigError(f"ct={path}: no NIfTI, MHA, NRRD or DICOM in it")
    return folders


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next((ending for ending in _VOLUMES if name.endswith(ending)), "")


def _stem(path: Path) -> str:
    ending = _ending(path) or ("" if path.is_dir() else path.suffix)
    return path.name[: len(path.name) - len(ending)]


def _watched(paths: list[Path], progress: bool) -> Iterable[Path]:
    if not progress:
        return paths
    from rich.console import Console
    from rich.progress import track

    return track(paths, "mask volumes", console=Console(stderr=True))
