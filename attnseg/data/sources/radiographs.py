"""What the sets of radiographs with marks share: X-rays, and masks drawn from the marks.

There is no DRR: the X-ray serves both pathways (pairing `unpaired`), and the record says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.files import user_path
from attnseg.data.sources.base import Source
from attnseg.data.sources.files import fingerprint_files, named_files
from attnseg.imaging.annotations.nodule import Nodule
from attnseg.imaging.annotations.plane import Rule, radiograph_mask
from attnseg.imaging.case import Case, CaseContent, CaseImages
from attnseg.imaging.images import Picture, read_image

_IMAGES = (".png", ".mha", ".mhd", ".dcm", ".jpg", ".jpeg", ".tif", ".tiff", ".nii", ".gz", ".img")


class RadiographSource(Source):
    """Cases that are one radiograph each; a reader gives the listing.

    Args:
        record: plain types that say what the source is, with its `name` and `root`.
        cases: in order, each with its `xray`.
        lesions: of each case, by id.
        problems: what is wrong with the listing.
        rule: how boxes and polygons are filled.
        annotated_width: of the pixels that the marks are in, where images may be scaled.
    """

    def __init__(
        self,
        record: Mapping[str, Any],
        cases: Sequence[Case],
        lesions: Mapping[str, Sequence[Nodule]],
        problems: Sequence[str],
        *,
        rule: Rule = "as_given",
        annotated_width: int | None = None,
    ) -> None:
        self._cases, self._problems = list(cases), list(problems)
        self._lesions = {case.case_id: tuple(lesions[case.case_id]) for case in cases}
        self._rule, self._annotated_width = rule, annotated_width
        self.record: dict[str, Any] = {
            **record,
            "mask_rule": rule,
            "pairing": {"unpaired": len(self._cases)},
            "mask_kind": {"surrogate": len(self._cases)},
            "n_drr_from_xray": len(self._cases),
        }

    def cases(self) -> list[Case]:
        """One case an image, in the order of their names."""
        return list(self._cases)

    def nodules(self, case: Case) -> tuple[Nodule, ...]:
        """The lesions behind a case's mask."""
        return self._lesions[case.case_id]

    def load(self, case: Case) -> CaseImages:
        """Decode a radiograph and draw its lesions."""
        assert case.xray is not None
        picture = self.read(case.xray)
        height, width = picture.pixels.shape
        scale = 1.0 if self._annotated_width is None else width / self._annotated_width
        mask, problems = radiograph_mask(
            self.nodules(case), (height, width), rule=self._rule, scale=scale
        )
        if problems:
            found = [f"{case.xray}: {problem}" for problem in problems]
            raise DataError(f"case {case.case_id} cannot be used:", found)
        spacing = self.spacing(case, picture)
        return CaseImages(xray=picture.pixels, drr=picture.pixels, mask=mask, spacing=spacing)

    def fingerprint(self, case: Case) -> str:
        """The image, its lesions and how they are drawn."""
        name, lesions = str(self.record["name"]), repr(self.nodules(case))
        return fingerprint_files(name, self._rule, lesions, self.options(), case.xray)

    def content(self, case: Case) -> CaseContent:
        """The image, its lesions and how they are drawn."""
        lesions = [{type(one.shape).__name__: asdict(one.shape)} for one in self.nodules(case)]
        drawn = {"rule": self._rule, "annotated_width": self._annotated_width}
        parameters = {"lesions": lesions, "options": self.options(), **drawn}
        return CaseContent(named_files(case, Path(self.record["root"])), parameters)

    def problems(self) -> list[str]:
        """What is wrong with the listing."""
        return list(self._problems)

    def read(self, path: Path) -> Picture:
        """Decode one image, bright where the radiation was absorbed."""
        return read_image(path)

    def spacing(self, case: Case, picture: Picture) -> tuple[float, float] | None:
        """mm per pixel: the case's where the set tells it, else the file's."""
        return case.spacing or picture.spacing

    def options(self) -> str:
        """What else decides the pixels; part of the fingerprint."""
        return ""


def existing_root(configured: str | None, name: str, contents: str) -> Path:
    """The folder of a data set.

    Raises:
        ConfigError: not set, or not there.
    """
    hint = f"set data.root=/path/to/{name} ({contents})"
    if not configured:
        raise ConfigError(f"data.root is not set, and data={name} needs it; {hint}")
    root = user_path(configured)
    if not root.is_dir():
        raise ConfigError(f"data.root={root}: no such folder; {hint}")
    return root


def images_below(root: Path) -> dict[str, list[Path]]:
    """Every image file below a folder, by its name."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in _IMAGES and path.is_file():
            found.setdefault(path.name, []).append(path)
    return found
