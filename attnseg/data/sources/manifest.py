"""A CSV of image files: columns case, patient, xray, drr, mask, and some that may be missing.

- Files are PNG, NIfTI, MHA or DICOM; relative paths start at the CSV's folder.
- One of xray and drr may be blank: the other serves both pathways, and the record counts them.
- mask is a file, or the word `none` for a case known to have no lesion, or `unlabelled` for one
  that nobody has read (an X-ray, say): such cases are listed apart (`unlabelled`), for domain
  adaptation, and never trained on or measured. A blank mask is an error: an unread case must not
  pass for a healthy one.
- The DRR's grid is the case's (the X-ray's, where there is no DRR). Other grids are refused, or
  with `data.on_mismatch=resample` resampled onto it (see `resize.match_grid`).
- spacing is the grid's, in mm: `0.7`, or `0.7x0.8` (row x column); it wins over a file's own.
- split (train, val, test) is used with `data.split.kind=fixed`.
- pairing says how xray and drr belong together (see `attnseg.imaging.case.Pairing`); where it is
  blank, a DRR alone is `same`, an X-ray alone `unpaired`, and both are left unstated.
- mask_kind (exact, surrogate) and reader say what the mask is worth; the record counts them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from attnseg.common.errors import DataError
from attnseg.component import Doc
from attnseg.data.findings import some
from attnseg.data.sources.base import Source
from attnseg.data.sources.files import attempt, fingerprint_files, named_files
from attnseg.data.sources.manifest_rows import existing_manifest, read_rows
from attnseg.imaging.case import Case, CaseContent, CaseImages, Spacing
from attnseg.imaging.images import Picture, read_image, read_mask
from attnseg.imaging.radiograph import kind_of

_SPACING_TOLERANCE = 0.01


class ManifestSource(Source):
    """A CSV with columns case, patient, xray, drr, mask and optionally spacing, split.

    Reads it once; images are opened by `load` only.

    Raises:
        ConfigError: `data.root` is not set or no manifest, or a column is missing.
        DataError: the manifest has no rows.
    """

    name = "manifest"

    def __init__(
        self,
        *,
        root: Annotated[
            str | None, Doc("the CSV, or the folder that holds manifest.csv; needed")
        ] = None,
        on_mismatch: Annotated[
            Literal["resample", "refuse"], Doc("of X-ray, DRR and mask on different grids")
        ] = "refuse",
    ) -> None:
        self._path = existing_manifest(root)
        self._on_mismatch = on_mismatch
        listed, self._problems = read_rows(self._path)
        if not listed and not self._problems:
            raise DataError(f"{self._path}: the manifest has no rows; add a row for each case")
        self._cases = [case for case in listed if case.labelled]
        self._unlabelled = [case for case in listed if not case.labelled]
        self.record: dict[str, Any] = {
            "name": "manifest",
            "manifest": str(self._path),
            "on_mismatch": on_mismatch,
            "n_xray_from_drr": sum(case.xray is None for case in self._cases),
            "n_drr_from_xray": sum(case.drr is None for case in self._cases),
            "n_unlabelled": len(self._unlabelled),
            "pairing": dict(Counter(case.pairing or "unstated" for case in self._cases)),
            "mask_kind": dict(Counter(case.mask_kind or "unstated" for case in self._cases)),
            "n_dicom": sum(_is_dicom(case.xray or case.drr) for case in self._cases),
        }

    def cases(self) -> list[Case]:
        """One case a usable row, in the CSV's order; of two with one name the first."""
        return list(self._cases)

    def unlabelled(self) -> list[Case]:
        """The cases that nobody has read, in the CSV's order; `load_unlabelled` opens them."""
        return list(self._unlabelled)

    def load_unlabelled(self, case: Case) -> Picture:
        """Decode the X-ray (the DRR, where there is none) alone, which needs no mask.

        Raises:
            DataError: it is missing or unreadable.
        """
        path = case.xray or case.drr
        assert path is not None
        picture = read_image(path)
        return Picture(picture.pixels, case.spacing or picture.spacing)

    def load(self, case: Case) -> CaseImages:
        """Decode a case's files and bring them onto one grid, by the rule of `on_mismatch`."""
        if not case.labelled:
            raise DataError(
                f"case {case.case_id} cannot be used:",
                [f"{case.xray or case.drr}: is unlabelled, and a mask is needed here"],
            )
        problems: list[str] = []
        pictures: dict[Path, Picture | None] = {
            path: attempt(problems, lambda path=path: read_image(path))  # type: ignore[misc]
            for path in (case.drr, case.xray)
            if path is not None
        }
        mask_path = case.mask
        mask = attempt(problems, lambda: read_mask(mask_path)) if mask_path is not None else None
        if problems:
            raise DataError(f"case {case.case_id} cannot be used:", problems)
        grid_path = case.drr or case.xray
        assert grid_path is not None
        grid, xray = pictures[grid_path], pictures[case.xray or grid_path]
        assert grid is not None
        assert xray is not None
        spacing = case.spacing or grid.spacing
        # Files that agree with the grid's own header are on the grid, whatever the column says.
        target = Picture(grid.pixels, spacing)
        xray = _corrected(xray, grid, spacing)
        mask = _corrected(mask, grid, spacing) if mask is not None else None
        xray_pixels = self._onto(xray, target, case.xray or grid_path, problems)
        mask_pixels: npt.NDArray[Any] | None = np.zeros(grid.pixels.shape, dtype=np.uint8)
        if mask is not None and mask_path is not None:
            mask_pixels = self._onto(mask, target, mask_path, problems, is_mask=True)
        if problems or xray_pixels is None or mask_pixels is None:
            raise DataError(f"case {case.case_id} cannot be used:", problems)
        return CaseImages(xray=xray_pixels, drr=grid.pixels, mask=mask_pixels, spacing=spacing)

    def fingerprint(self, case: Case) -> str:
        """The files, the spacing and the rule for other grids."""
        return fingerprint_files(
            "manifest", self._on_mismatch, str(case.spacing), case.xray, case.drr, case.mask
        )

    def content(self, case: Case) -> CaseContent:
        """The row's files, by what their paths are from the CSV's folder, and the rule."""
        return CaseContent(named_files(case, self._path.parent), self._on_mismatch)

    def problems(self) -> list[str]:
        """Rows that cannot be understood, duplicate cases, an image of two patients."""
        found = list(self._problems)
        # No set a file: a million small containers cost more to collect than to make.
        owner: dict[str, str] = {}
        shared: dict[str, set[str]] = defaultdict(set)
        for case in chain(self._cases, self._unlabelled):
            for path in (case.xray, case.drr):
                if path is None:
                    continue
                first = owner.setdefault(str(path), case.patient_id)
                if first != case.patient_id:
                    shared[str(path)] |= {first, case.patient_id}
        for name, patients in shared.items():
            names = some(sorted(patients))
            found.append(f"{name}: listed for patients {names}; an image is of one patient")
        return found

    def _onto(
        self,
        picture: Picture,
        grid: Picture,
        path: Path,
        problems: list[str],
        *,
        is_mask: bool = False,
    ) -> npt.NDArray[Any] | None:
        """The picture on the case's grid, or None and a line in `problems`."""
        pixels, shape = picture.pixels, (grid.pixels.shape[0], grid.pixels.shape[1])
        if picture.pixels is grid.pixels:
            return pixels
        if pixels.shape == shape and _same_spacing(picture.spacing, grid.spacing):
            return pixels
        found, wanted = _describe(pixels, picture.spacing), _describe(grid.pixels, grid.spacing)
        if self._on_mismatch == "refuse":
            problems.append(
                f"{path}: {found}, but the case's grid is {wanted}; "
                "data.on_mismatch=resample would bring it there"
            )
            return None
        from attnseg.imaging.resize import match_grid  # with torch

        matched = match_grid(pixels, picture.spacing, shape, grid.spacing, is_mask=is_mask)
        if matched is None:
            problems.append(
                f"{path}: {found} has another aspect than the case's grid ({wanted}), and without "
                "the spacing of both there is no telling how they lie; add spacing, or crop it"
            )
        elif is_mask and pixels.any() and not matched.any():
            problems.append(f"{path}: its lesions lie outside the case's grid ({wanted})")
        return matched


def _is_dicom(path: Path | None) -> bool:
    """Whether it is one: `attnseg predict` then takes DICOM values as they were trained on."""
    return path is not None and path.is_file() and kind_of(path) == "dicom"


def _corrected(picture: Picture, grid: Picture, spacing: Spacing | None) -> Picture:
    """The picture with the case's spacing, if its own header says the same as the grid's."""
    same = picture.pixels.shape == grid.pixels.shape
    if same and _same_spacing(picture.spacing, grid.spacing):
        return Picture(picture.pixels, spacing)
    return picture


def _same_spacing(first: Spacing | None, second: Spacing | None) -> bool:
    if first is None or second is None:
        return True
    return all(
        abs(a - b) <= _SPACING_TOLERANCE * max(a, b) for a, b in zip(first, second, strict=True)
    )


def _describe(pixels: npt.NDArray[Any], spacing: Spacing | None) -> str:
    size = f"{pixels.shape[0]} x {pixels.shape[1]} px"
    return size if spacing is None else f"{size} at {spacing[0]:g} x {spacing[1]:g} mm"
