"""Which CTs are to be projected, and which mask belongs to which.

Rule: a mask belongs to the CT whose name its own begins with, followed by nothing or by one of
`_-. `. A CT's name is its path below `ct` without the ending and without a last _ct, _image or
_volume. So `LIDC-IDRI-0001_ct.nii.gz` goes with `LIDC-IDRI-0001_nodules.nii.gz`. Of several
names that fit, the longest counts.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.files import matching, user_path
from attnseg.config.drr import DrrConfig
from attnseg.imaging.drr.dicom import dicom_files, is_dicom
from attnseg.imaging.drr.headers import volume_ending
from attnseg.imaging.drr.patients import Naming, naming

_SUFFIX = re.compile(r"[-_. ]+(ct|image|volume)$", re.IGNORECASE)
_SEPARATORS = "_-. "
_LONGEST = 180  # letters of a case's name; file systems take 255 bytes, and views get endings


@dataclass(frozen=True)
class Job:
    """One CT to project.

    Attributes:
        case, patient: as they are written; see `patients`.
        ct, mask: where they are; no mask: nothing is known, or (`healthy`) there is no nodule.
        fingerprint: of the input files, by name, size and time of change.
    """

    case: str
    patient: str
    ct: Path
    mask: Path | None
    healthy: bool
    fingerprint: str


@dataclass(frozen=True)
class Found:
    """What is there to do, and what cannot be done."""

    jobs: list[Job]
    problems: list[str]
    single: bool


@dataclass(frozen=True)
class _Volumes:
    names: dict[str, Path]
    single: bool


def find_jobs(config: DrrConfig) -> Found:
    """Every CT with its mask.

    Raises:
        ConfigError: `ct` or `mask` names nothing that could be one.
        DataError: two CTs have one name.
    """
    cts = _volumes(config.ct, "ct")
    problems: list[str] = []
    masks: dict[str, Path | None] = {}
    if config.mask is not None:
        found = _volumes(config.mask, "mask")
        if cts.single and found.single:
            masks = {next(iter(cts.names)): next(iter(found.names.values()))}
        else:
            masks, problems = _matched(cts, found, config.masks.missing)
    named = naming(config)
    jobs = []
    for name, ct in cts.names.items():
        if config.mask is not None and name not in masks:
            continue  # among the problems
        mask = masks.get(name)
        healthy = config.mask is not None and mask is None and config.masks.missing == "none"
        try:
            jobs.append(_job(name, ct, mask, healthy, named))
        except DataError as error:
            problems.append(str(error))
    return Found(jobs, problems, cts.single)


def _job(name: str, ct: Path, mask: Path | None, healthy: bool, named: Naming) -> Job:
    case, patient = named.names(name, ct)
    if len(case) > _LONGEST:  # files are named after it
        kept = case[: _LONGEST - 13]
        case = f"{kept}-{hashlib.sha256(case.encode()).hexdigest()[:12]}"
    return Job(case, patient, ct, mask, healthy, fingerprint(ct, mask))


def fingerprint(*paths: Path | None) -> str:
    """A hash of the files by name, size and time of change; where they lie does not count."""
    lines = []
    for path in paths:
        for file in _files_of(path) if path is not None else []:
            stat = file.stat()
            lines.append(f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}")
        lines.append("|")
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    stem = path.name[: -len(volume_ending(path) or "")] if volume_ending(path) else path.name
    data = [path.with_name(stem + ending) for ending in (".raw", ".zraw", ".raw.gz")]
    return [path, *(file for file in data if file.is_file())]


def _volumes(configured: str, key: str) -> _Volumes:
    path = user_path(configured)
    if path.is_file():
        return _Volumes({_name(Path(path.name)): path}, single=True)
    if path.is_dir():
        if dicom_files(path):
            return _Volumes({_name(Path(path.resolve().name)): path}, single=True)
        return _Volumes(_named(_below(path), path, key), single=False)
    if set("*?[") & set(configured):
        fixed, matches = matching(path)
        found = [match for match in matches if match.is_file() or dicom_files(match)]
        if found:
            return _Volumes(_named(found, fixed, key), single=False)
        raise ConfigError(f"{key}={configured}: matches no volume and no folder with DICOM files")
    raise ConfigError(f"{key}={configured}: no such file or folder")


def _below(folder: Path) -> list[Path]:
    """Volumes, and folders with DICOM files, at any depth."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += _below(path)
        elif volume_ending(path) is not None:
            found.append(path)
        elif is_dicom(path) and folder not in found:
            found.append(folder)
    return found


def _named(paths: list[Path], base: Path, key: str) -> dict[str, Path]:
    if not paths:
        raise ConfigError(
            f"{key}={base}: holds no volume (.nii, .nii.gz, .mha, .mhd, .nrrd) and no DICOM series"
        )
    names: dict[str, Path] = {}
    twice = []
    for path in paths:
        name = _name(path.relative_to(base))
        if name in names and key == "ct":
            twice.append(f"{names[name]} and {path} would both be case {name}")
        names[name if key == "ct" else str(path.relative_to(base))] = path
    if twice:
        raise DataError("CTs of one name; rename one of each:", twice)
    return names


def _name(relative: Path, keep_suffix: bool = False) -> str:
    ending = volume_ending(relative)
    last = relative.name[: -len(ending)] if ending else relative.name.removesuffix(".dcm")
    parts = [*relative.parts[:-1], last]
    name = "__".join(re.sub(r"[^A-Za-z0-9_.+-]", "-", part) for part in parts)
    return name if keep_suffix else (_SUFFIX.sub("", name) or name)


def _matched(
    cts: _Volumes, masks: _Volumes, missing: str
) -> tuple[dict[str, Path | None], list[str]]:
    """The masks by the names of their CTs, and what does not pair up."""
    problems = []
    owned: dict[str, list[Path]] = {name: [] for name in cts.names}
    taken = {path.resolve() for path in cts.names.values()}
    for relative, path in masks.names.items():
        if path.resolve() in taken:
            continue  # CTs and masks in one folder
        name = _name(Path(relative), keep_suffix=True)
        fits = [
            case
            for case in owned
            if name == case or (name.startswith(case) and name[len(case)] in _SEPARATORS)
        ]
        if fits:
            owned[max(fits, key=len)].append(path)
        else:
            problems.append(f"{path}: a mask without a CT: no CT's name begins it")
    matched: dict[str, Path | None] = {}
    for case, paths in owned.items():
        if len(paths) > 1:
            listed = " and ".join(path.name for path in paths)
            problems.append(f"{case}: several masks ({listed}); give the one it is, or a glob")
        elif paths or missing != "refuse":
            matched[case] = paths[0] if paths else None
        else:
            problems.append(
                f"{cts.names[case]}: a CT without a mask; masks.missing=unknown projects it "
                "nevertheless, masks.missing=none takes it to have no nodule"
            )
    return matched, problems
