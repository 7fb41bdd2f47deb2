"""Which images there are, what each is called, and which DRR belongs to it."""

from __future__ import annotations

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.files import matching, user_path
from attnseg.common.listing import readable
from attnseg.imaging.radiograph import DICOMS, PICTURES, VOLUMES, kind_of

_ENDINGS = (*VOLUMES, *PICTURES, *DICOMS)
_ROLE = re.compile(r"[-_. ]?(x-?ray|cxr|drr)$", re.IGNORECASE)
_COMPANION = re.compile(r"^(.+)_(mask|labels|thickness)$", re.IGNORECASE)
_SHEET = "contact_sheet.png"
_LONGEST = 200  # bytes of a case's name; file systems take 255, and a number may follow


@dataclass(frozen=True)
class Item:
    """One image to predict.

    Attributes:
        name: its case name, unique, fit for a folder; with `anonymise` a digest of its bytes.
        image: the file.
        drr: its DRR's file, None where the X-ray serves both pathways.
        problem: why it cannot be predicted, known from its name alone.
    """

    name: str
    image: Path
    drr: Path | None = None
    problem: str | None = None


def find_items(
    images: str | Sequence[str],
    drr: str | Sequence[str] | None,
    out: Path,
    *,
    anonymise: bool = False,
) -> list[Item]:
    """List the images, in order of their paths, each with its name and its DRR.

    Args:
        images: files, folders (searched to their depths) or globs. Of a folder, what lies beside
            its image as `<image>_mask` (also _labels, _thickness) is left out, and so is a
            contact sheet: `attnseg drr` and the layout of lidc_drr have such.
        drr: likewise; paired by name, whatever ending and whichever of _xray, _cxr, _drr follow
            it; one image and one DRR need no names. Images among the DRRs are no X-rays.
        out: where results go: not searched.
        anonymise: name a case by the first 12 hex digits of its file's SHA-256.

    Raises:
        ConfigError: there is no such file or folder.
        DataError: no image is found, or two DRRs have one name.
    """
    drrs = _find(drr, "drr", out) if drr is not None else []
    taken = {path.resolve() for path in drrs}
    found = [path for path in _find(images, "images", out) if path.resolve() not in taken]
    if not found:
        raise DataError(
            f"images={_shown(images)}: no image found; DICOM (CR, DX, RG), "
            f"{', '.join(VOLUMES + PICTURES)} are read"
            + (" (those given as drr= are no X-rays)" if drrs else "")
        )
    pairs = _pair(found, drrs) if drr is not None else [None] * len(found)
    names = _digests(found) if anonymise else _names(found)
    items = []
    for path, partner, name in zip(found, pairs, names, strict=True):
        problem = None
        if drr is not None and partner is None:
            problem = (
                f"{readable(path)}: no DRR of that name among drr=; add it, or leave drr= out: the "
                "X-ray alone then serves both pathways"
            )
        items.append(Item(name, path, partner, problem))
    return items


def stem(path: Path) -> str:
    """The name without an image's ending (.nii.gz is one); a DICOM's UID keeps its dots."""
    lower = path.name.lower()
    for ending in sorted(_ENDINGS, key=len, reverse=True):
        if lower.endswith(ending) and len(lower) > len(ending):
            return path.name[: -len(ending)]
    return path.name


def _find(spec: str | Sequence[str], key: str, out: Path) -> list[Path]:
    """The image files that a specification means, sorted, each once."""
    found: dict[Path, None] = {}
    for one in [spec] if isinstance(spec, str) else spec:
        path = user_path(one)
        if path.is_dir():
            # Results are no images, not even where they go into the images' own folder.
            results = out.resolve() if out.resolve() != path.resolve() else out.resolve() / "cases"
            files = [p for p in sorted(path.rglob("*")) if p.is_file()]
            bases = {(p.parent, _role_free(p)) for p in files if not _COMPANION.match(stem(p))}
            for file in files:
                if _is_companion(file, bases):
                    continue
                if results in file.resolve().parents:
                    continue
                if not _hidden(file, path) and kind_of(file):
                    found[file] = None
        elif path.is_file():
            found[path] = None  # whatever it is called: reading it will tell
        elif glob.has_magic(str(path)):
            _, hits = matching(path)
            found |= dict.fromkeys(hit for hit in hits if hit.is_file() and kind_of(hit))
        else:
            raise ConfigError(f"{key}={one}: no such file or folder")
    return list(found)


def _is_companion(file: Path, bases: set[tuple[Path, str]]) -> bool:
    """Whether it is the mask of an image beside it, or the like."""
    match = _COMPANION.match(stem(file))
    if match is None:
        return file.name == _SHEET
    return (file.parent, _ROLE.sub("", match[1]).lower()) in bases


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _names(paths: Sequence[Path]) -> list[str]:
    """A short name a file: its stem, with its folders or its ending where that is needed."""
    stems = [_safe(stem(path)) for path in paths]
    counts = Counter(name.lower() for name in stems)
    longer = [
        name if counts[name.lower()] == 1 else _safe(f"{path.parent.name}__{name}")
        for name, path in zip(stems, paths, strict=True)
    ]
    return _numbered(longer)


def _digests(paths: Sequence[Path]) -> list[str]:
    names = []
    for path in paths:
        try:
            with path.open("rb") as stream:
                names.append(hashlib.file_digest(stream, "sha256").hexdigest()[:12])
        except OSError as error:
            raise ConfigError(f"{path}: cannot be opened ({error.strerror})") from None
    return _numbered(names)


def _numbered(names: Sequence[str]) -> list[str]:
    """The same names, the second and further of one name numbered."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name.lower()] += 1
        number = seen[name.lower()]
        unique.append(name if number == 1 else f"{name}-{number}")
    return unique if len({n.lower() for n in unique}) == len(unique) else _numbered(unique)


def _safe(name: str) -> str:
    plain = re.sub(r"[^\w.=+-]+", "_", name).encode()[:_LONGEST].decode(errors="ignore")
    return plain.strip("._") or "image"


def _pair(images: Sequence[Path], drrs: Sequence[Path]) -> list[Path | None]:
    if len(images) == len(drrs) == 1:
        return list(drrs)
    by_name: dict[str, list[Path]] = {}
    for path in drrs:
        by_name.setdefault(_role_free(path), []).append(path)
    twice = [f"{', '.join(map(str, paths))}" for paths in by_name.values() if len(paths) > 1]
    if twice:
        raise DataError(
            "drr: several DRRs have one name, so that no image can have its own:", twice
        )
    return [next(iter(by_name.get(_role_free(path), [])), None) for path in images]


def _role_free(path: Path) -> str:
    return _ROLE.sub("", stem(path)).lower()


def _shown(spec: str | Sequence[str]) -> str:
    return spec if isinstance(spec, str) else f"[{', '.join(spec)}]"
