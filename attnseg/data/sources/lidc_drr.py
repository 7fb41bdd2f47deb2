"""DRRs of LIDC-IDRI: `<root>/<range>/<case>_drr.png` beside `<case>_drr_mask.png`.

The patient is the name's prefix `LIDC-IDRI-NNNN` (0138 counts as 0029: they are one CT); the
spacing is in `scans.csv`, where it is there. The set has no X-ray: its pathway gets the DRR
itself (`data.xray=same`) or an X-ray simulated from it (`data.xray=simulated`), and the run's
record says which.
Data: Armato et al., Medical Physics 38(2), 2011, doi 10.7937/K9/TCIA.2015.LO9QL9SX.
"""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.files import user_path
from attnseg.common.listing import readable
from attnseg.common.tables import read_table
from attnseg.component import Doc
from attnseg.data.sources.base import Source
from attnseg.data.sources.files import attempt, fingerprint_files, named_files, parse_spacing
from attnseg.imaging.case import Case, CaseContent, CaseImages, Pairing, Spacing
from attnseg.imaging.images import read_image, read_mask

_DRR, _MASK = "_drr.png", "_drr_mask.png"
_PATIENT = re.compile(r"LIDC-IDRI-\d{4}(?!\d)")
# The published set has one CT under two patient ids: the DRRs are equal to the byte, and both
# have the same 32 mm nodule. As two patients they would leak between splits.
_SAME_PERSON = {"LIDC-IDRI-0138": "LIDC-IDRI-0029"}
# To be raised with every change of what `simulate_xray` makes: cached X-rays then expire.
_SIMULATION_VERSION = 1


class LidcDrrSource(Source):
    """DRRs of LIDC-IDRI: <root>/<range>/<case>_drr.png with <case>_drr_mask.png.

    Lists the folder once; files are opened by `load` only.

    Raises:
        ConfigError: `data.root` or `data.scans_csv` is not set right.
        DataError: there is not one DRR below the root.
    """

    name = "lidc_drr"

    def __init__(
        self,
        *,
        root: Annotated[
            str | None, Doc("the folder that contains LIDC_LDRI, or is it; needed")
        ] = None,
        xray: Annotated[
            Literal["same", "simulated"],
            Doc("the set has no X-ray: the DRR itself, or an X-ray simulated from it"),
        ] = "same",
        scans_csv: Annotated[
            str | None, Doc("spacing; null: scans.csv in root or beside it")
        ] = None,
    ) -> None:
        self._root = _existing_root(root)
        self._xray = xray
        # The simulated X-ray is made of the DRR: another pose by 1.5 mm and a degree at most.
        self._pairing: Pairing = "registered" if xray == "simulated" else "same"
        found = list(self._root.rglob("*_drr*.png"))
        self._drrs = sorted((p for p in found if p.name.endswith(_DRR)), key=lambda p: (p.name, p))
        self._masks = [path for path in found if path.name.endswith(_MASK)]
        if not self._drrs:
            raise DataError(
                f"data.root={self._root}: no *{_DRR} below this folder; give the folder that "
                "contains LIDC_LDRI (or is it), as in data.root=/path/to/LIDC_LDRI"
            )
        self._scans = _find_scans(scans_csv, self._root)
        self._spacings, self._scan_problems = _read_spacings(self._scans)
        self.record: dict[str, Any] = {
            "name": "lidc_drr",
            "root": str(self._root),
            "scans_csv": str(self._scans) if self._scans is not None else None,
            "xray": xray,
            "pairing": {self._pairing: len(self._drrs)},
            "mask_kind": {"exact": len(self._drrs)},
            "same_person": dict(_SAME_PERSON),
        }

    def cases(self) -> list[Case]:
        """One case a DRR, in the order of their names; of two with one name the first."""
        first: dict[str, Path] = {}
        for path in self._drrs:
            first.setdefault(path.name, path)
        return [self._case(path) for path in first.values()]

    def load(self, case: Case) -> CaseImages:
        """Decode a case's DRR and mask, and make its X-ray."""
        assert case.drr is not None
        assert case.mask is not None
        drr_path, mask_path = case.drr, case.mask
        problems: list[str] = []
        drr = attempt(problems, lambda: read_image(drr_path))
        if mask_path.is_file():
            mask = attempt(problems, lambda: read_mask(mask_path))
        else:
            mask = None
            problems.append(f"{mask_path}: missing mask; add it beside its DRR")
        if drr is not None and mask is not None and drr.pixels.shape != mask.pixels.shape:
            problems.append(
                f"{mask_path}: {_size(mask.pixels.shape)} px, but its DRR has "
                f"{_size(drr.pixels.shape)}; project the mask onto the DRR's grid"
            )
        if drr is None or mask is None or problems:
            raise DataError(f"case {case.case_id} cannot be used:", problems)
        simulated = self._xray == "simulated"
        xray = _simulated_xray(drr.pixels, case) if simulated else drr.pixels
        return CaseImages(xray=xray, drr=drr.pixels, mask=mask.pixels, spacing=case.spacing)

    def fingerprint(self, case: Case) -> str:
        """Files, spacing, X-ray policy and, for a simulated one, the simulation's version."""
        return fingerprint_files("lidc_drr", self._policy, str(case.spacing), case.drr, case.mask)

    def content(self, case: Case) -> CaseContent:
        """DRR and mask, and how the X-ray comes about."""
        return CaseContent(named_files(case, self._root), self._policy)

    @property
    def _policy(self) -> str:
        """Where X-rays come from."""
        return f"{self._xray}{_SIMULATION_VERSION}" if self._xray == "simulated" else self._xray

    def problems(self) -> list[str]:
        """Duplicate cases, bad names, masks without a DRR, bad rows of scans.csv."""
        found = [*self._scan_problems, *self._duplicates()]
        for path in self._drrs:
            if _PATIENT.match(path.name) is None:
                found.append(f"{path}: the name does not begin with LIDC-IDRI-NNNN; rename it")
        known = {str(path).removesuffix(_DRR) for path in self._drrs}
        lonely = [path for path in self._masks if str(path).removesuffix(_MASK) not in known]
        for mask in sorted(lonely):
            found.append(f"{mask}: a mask without its DRR; add the DRR or remove the mask")
        return found

    def _duplicates(self) -> list[str]:
        """They are neighbours, since the DRRs are in the order of their names."""
        folders: dict[str, list[str]] = {}
        for one, next_one in pairwise(self._drrs):
            if one.name == next_one.name:
                folders.setdefault(one.name, [str(one.parent)]).append(str(next_one.parent))
        return [
            f"{name}: duplicate case, in {', '.join(places)}; keep one"
            for name, places in folders.items()
        ]

    def _case(self, path: Path) -> Case:
        case_id = readable(path.name.removesuffix(_DRR))
        match = _PATIENT.match(path.name)
        patient = match.group() if match is not None else case_id
        return Case(
            case_id=case_id,
            patient_id=_SAME_PERSON.get(patient, patient),
            drr=path,
            mask=_mask_of(path),
            spacing=self._spacings.get(path.name),
            pairing=self._pairing,
            mask_kind="exact",
            reader="union",
        )


def _existing_root(configured: str | None) -> Path:
    hint = "set data.root=/path/to/LIDC_LDRI (DRRs in <range>/<case>_drr.png)"
    if not configured:
        raise ConfigError(f"data.root is not set, and data=lidc_drr needs it; {hint}")
    root = user_path(configured)
    if not root.is_dir():
        raise ConfigError(f"data.root={root}: no such folder; {hint}")
    return root


def _find_scans(configured: str | None, root: Path) -> Path | None:
    if configured is not None:
        path = user_path(configured)
        if not path.is_file():
            raise ConfigError(f"data.scans_csv={path}: no such file; null looks for it near root")
        return path
    places = [root / "scans.csv", root.parent / "scans.csv"]
    return next((path for path in places if path.is_file()), None)


def _read_spacings(path: Path | None) -> tuple[dict[str, Spacing], list[str]]:
    """Spacing by DRR file name (the pixels are square), and the rows that give none."""
    if path is None:
        return {}, []
    spacings: dict[str, Spacing] = {}
    problems = []
    for line, row in read_table(path, ("drr_file", "pixel_spacing_mm")):
        try:
            spacings[row["drr_file"]] = parse_spacing(row["pixel_spacing_mm"])
        except ValueError:
            problems.append(
                f"{path}, line {line}: pixel_spacing_mm is {row['pixel_spacing_mm']!r}; "
                "write millimetres per pixel"
            )
    return spacings, problems


def _simulated_xray(drr: npt.NDArray[Any], case: Case) -> npt.NDArray[np.uint16]:
    """The X-ray that belongs to a case for good: keyed by its name. 16 bit, (H, W)."""
    from attnseg.imaging.xray import simulate_xray

    white = np.iinfo(drr.dtype).max if np.issubdtype(drr.dtype, np.integer) else drr.max()
    key = int.from_bytes(hashlib.sha256(case.case_id.encode()).digest()[:8], "big")
    xray = simulate_xray(drr.astype(np.float32) / np.float32(white), (key,), case.spacing)
    sixteen_bit: npt.NDArray[np.uint16] = np.rint(xray * 65535.0).astype(np.uint16)
    return sixteen_bit


def _mask_of(drr: Path) -> Path:
    return drr.with_name(drr.name.removesuffix(_DRR) + _MASK)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
