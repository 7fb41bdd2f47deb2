"""One case of a case set: its files, linked, copied or converted, and what is known of them.

What is done is noted beside (`.build/<case>.json`), after the files are whole: a build that was
killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attnseg.common.connectivity import EIGHT
from attnseg.common.errors import DataError
from attnseg.common.files import write_json
from attnseg.data.sources.base import Source
from attnseg.imaging.case import Case, CaseImages, Spacing
from attnseg.imaging.images import Picture, read_image, read_mask, write_image

STATE = ".build"
IMAGES, MASKS, UNLABELLED = "images", "masks", "unlabelled"
Mode = Literal["link", "copy"]
# Not DICOM, whose header may name the patient; not MHD and NHDR, whose pixels lie beside.
_STAND_ALONE = (
    *(".png", ".mha", ".nii", ".nii.gz", ".nrrd"),
    *(".jpg", ".jpeg", ".bmp", ".tif", ".tiff"),
)


@dataclass(frozen=True)
class Plan:
    """Where a case goes; `stem` is unique and safe as a file name."""

    case: Case
    stem: str


@dataclass
class Built:
    """What became of a case; plain types, so that it can be kept as JSON.

    Attributes:
        fingerprint: of the source's case and the mode; another one makes it anew.
        files: role (xray, drr, mask) to path below the set's folder.
        sha256: path to digest of the content.
        how: role to `link`, `copy` or `converted`.
        shape: (H, W).
        dtype: of the X-ray's pixels.
        spacing: mm per pixel (row, column).
        lesions: pixels of each 8-connected component.
        digest: of the DRR's decoded pixels, to find the same image under two names.
        problems: why it cannot be used.
    """

    fingerprint: str
    files: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    shape: list[int] = field(default_factory=list)
    dtype: str = ""
    spacing: list[float] | None = None
    lesions: list[int] = field(default_factory=list)
    digest: str | None = None
    problems: list[str] = field(default_factory=list)


class WriteCase:
    """Write one planned case into a folder; picklable.

    Args:
        source: decodes it.
        folder: of the case set.
        mode: whether readable files are linked or copied.
    """

    def __init__(self, source: Source, folder: Path, mode: Mode) -> None:
        self._source, self._folder, self._mode = source, folder, mode

    def __call__(self, plan: Plan) -> Built:
        """The case's files, made now or by an earlier build; what is wrong is in the result."""
        case = plan.case
        fingerprint = f"{self._mode}|{self._source.fingerprint(case)}"
        note = self._folder / STATE / f"{plan.stem}.json"
        done = _read_note(note, fingerprint, self._folder)
        if done is not None:
            return done
        built = Built(fingerprint)
        try:
            if case.labelled:
                self._write_labelled(plan, built)
            else:
                self._write_unlabelled(plan, built)
        except DataError as error:
            return Built(fingerprint, problems=error.problems or [error.headline])
        built.sha256 = {name: _sha256(self._folder / name) for name in built.files.values()}
        write_json(note, asdict(built))
        return built

    def _write_labelled(self, plan: Plan, built: Built) -> None:
        case, images = plan.case, self._source.load(plan.case)
        for pixels in (images.drr, images.xray):
            _describe(built, pixels, images.spacing)
        stands_in = _stands_in(case, images)
        for role, path, pixels in (
            ("xray", case.xray, images.xray),
            ("drr", case.drr, images.drr),
        ):
            if role != stands_in:
                self._place(plan, built, role, path, pixels)
        labels, count = ndimage.label(images.mask, structure=EIGHT)
        built.lesions = [int(n) for n in np.bincount(labels.ravel(), minlength=count + 1)[1:]]
        built.digest = hashlib.sha1(np.ascontiguousarray(images.drr).tobytes()).hexdigest()
        if count:
            self._place(plan, built, "mask", case.mask, images.mask)

    def _write_unlabelled(self, plan: Plan, built: Built) -> None:
        """The images as they are: nothing has to fit a mask."""
        for role, path in (("drr", plan.case.drr), ("xray", plan.case.xray)):
            if path is not None:
                picture = read_image(path)
                _describe(built, picture.pixels, plan.case.spacing or picture.spacing)
                self._place(plan, built, role, path, picture.pixels)

    def _place(
        self, plan: Plan, built: Built, role: str, path: Path | None, pixels: npt.NDArray[Any]
    ) -> None:
        """Link or copy a file that reads as these pixels; write them where there is none."""
        if role == "mask":
            name, read = f"{MASKS}/{plan.stem}", read_mask
        else:
            part = IMAGES if plan.case.labelled else UNLABELLED
            name, read = f"{part}/{plan.stem}_{role}", read_image
        if path is not None and _reads_as(path, pixels, read):
            target = self._folder / f"{name}{_ending(path)}"
            target.parent.mkdir(parents=True, exist_ok=True)
            built.how[role] = _link_or_copy(path.resolve(), target, self._mode)
        else:
            shown = pixels * np.uint8(255) if role == "mask" else pixels
            ending = ".png" if shown.dtype in (np.uint8, np.uint16) else ".mha"
            target = self._folder / f"{name}{ending}"
            spacing = (built.spacing[0], built.spacing[1]) if built.spacing else None
            write_image(target, shown, spacing)
            built.how[role] = "converted"
        built.files[role] = str(target.relative_to(self._folder))


def _stands_in(case: Case, images: CaseImages) -> str | None:
    """The role that is only the other one again: it stays blank in the manifest."""
    if case.pairing is None and np.array_equal(images.xray, images.drr):
        return "drr" if case.drr is None else "xray"
    return {"same": "xray", "unpaired": "drr"}.get(case.pairing or "")


def _describe(built: Built, pixels: npt.NDArray[Any], spacing: Spacing | None) -> None:
    built.shape, built.dtype = [int(side) for side in pixels.shape], str(pixels.dtype)
    built.spacing = None if spacing is None else [float(side) for side in spacing]
    if not np.isfinite(pixels).all():
        raise DataError("unusable", ["the image has NaN or infinite pixels"])
    if pixels.min() == pixels.max():
        raise DataError("unusable", [f"every pixel is {pixels.flat[0]:g}; replace the image"])


def _reads_as(path: Path, pixels: npt.NDArray[Any], read: Callable[[Path], Picture]) -> bool:
    """Whether the file may stand in the set as it is: the manifest's reader gets these pixels."""
    if not path.name.lower().endswith(_STAND_ALONE):
        return False
    try:
        found = read(path).pixels
    except DataError:
        return False
    return found.dtype == pixels.dtype and np.array_equal(found, pixels)


def _ending(path: Path) -> str:
    return next(ending for ending in _STAND_ALONE if path.name.lower().endswith(ending))


def _link_or_copy(path: Path, target: Path, mode: Mode) -> str:
    """Put a file in place in one step; where the disk has no links it is copied."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if mode == "link":
            try:
                temporary.symlink_to(path)
                temporary.replace(target)
                return "link"
            except OSError:
                temporary.unlink(missing_ok=True)
        shutil.copyfile(path, temporary)
        temporary.replace(target)
        return "copy"
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _read_note(note: Path, fingerprint: str, folder: Path) -> Built | None:
    """What an earlier build left, if it is of the same files and they are all there."""
    try:
        built = Built(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    there = all((folder / name).is_file() for name in built.files.values())
    return built if built.fingerprint == fingerprint and there else None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
