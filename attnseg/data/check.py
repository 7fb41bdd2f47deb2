"""Everything wrong with a data set, at once: what `attnseg data check` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg.common.errors import DataError, UserError
from attnseg.common.parallel import for_each
from attnseg.config import DataConfig
from attnseg.data.case_set.verify import changed_files
from attnseg.data.findings import Finding, some
from attnseg.data.leaks import shared_pictures, similar_patients, split_of_patients
from attnseg.data.sources import build_source, unlabelled_cases, why_empty
from attnseg.data.sources.base import Source
from attnseg.data.splits import make_splits, unused_split_column
from attnseg.imaging.case import Case, CaseImages, Spacing
from attnseg.imaging.images import read_image
from attnseg.imaging.pictures import LENGTH, sketches_of

_PLAUSIBLE_MM = (0.05, 5.0)
_SIZES = 3  # named in the summary
_LARGEST_MASK = 0.5  # a lesion covers less than this share of a chest image


@dataclass(frozen=True)
class Report:
    """What is wrong with a data set, and what it is.

    Attributes:
        findings: errors first; empty where the data set is sound.
        summary: a line each on cases, sizes and spacing.
    """

    findings: list[Finding]
    summary: list[str]


@dataclass
class _Inspected:
    """What decoding one case told."""

    findings: list[Finding] = field(default_factory=list)
    sketches: npt.NDArray[np.int16] | None = None
    positive: bool = False
    spacing: Spacing | None = None
    shape: tuple[int, ...] | None = None


def check_data(
    config: DataConfig, *, workers: int | None = None, progress: bool = True
) -> list[Finding]:
    """What `report_on` finds."""
    return report_on(config, workers=workers, progress=progress).findings


def report_on(config: DataConfig, *, workers: int | None = None, progress: bool = True) -> Report:
    """Decode every case (not from the cache) and list what is wrong, in a stable order.

    Args:
        config: the data section.
        workers: processes that decode; None chooses.
        progress: draw a bar on stderr.

    Raises:
        ConfigError: there is no data set to look at (root missing or not set).
    """
    try:
        source = build_source(config)
    except DataError as error:
        return Report(_errors(error), [])
    findings = [Finding("error", problem) for problem in source.problems()]
    cases = source.cases()
    if not cases:
        return Report(_in_order([*findings, Finding("error", why_empty(source))]), [])
    inspected = for_each(
        _Inspect(source),
        cases,
        description="checking cases",
        workers=workers,
        progress=progress,
    )
    for one in inspected:
        findings += one.findings
    findings += _about_spacing(cases, inspected)
    findings += _about_masks(cases)
    findings += _about_unlabelled(source)
    findings += _about_card(source)
    findings += _about_size(cases, inspected, config.size)
    findings += _about_splits(cases, inspected, config)
    return Report(_in_order(findings), _summary(cases, inspected))


class _Inspect:
    """Decode one case and judge it; picklable."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, case: Case) -> _Inspected:
        try:
            images = self._source.load(case)
        except DataError as error:
            return _Inspected(_errors(error))
        return _Inspected(
            findings=_about_images(case, images),
            sketches=sketches_of(images),
            positive=bool(images.mask.any()),
            spacing=images.spacing,
            shape=images.mask.shape,
        )


def _about_images(case: Case, images: CaseImages) -> list[Finding]:
    findings = []
    for name, pixels, path in (
        ("DRR", images.drr, case.drr or case.xray),
        ("X-ray", images.xray, case.xray or case.drr),
    ):
        where = str(path) if path is not None else f"case {case.case_id}, {name}"
        findings += _about_pixels(where, pixels)
    share = float(images.mask.mean())
    if share > _LARGEST_MASK:
        where = str(case.mask) if case.mask is not None else f"case {case.case_id}, mask"
        findings.append(
            Finding(
                "warning", f"{where}: the mask covers {share:.0%} of the image; is it inverted?"
            )
        )
    return list(dict.fromkeys(findings))


def _about_pixels(where: str, pixels: npt.NDArray[Any]) -> list[Finding]:
    if not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).sum())
        return [Finding("error", f"{where}: {count} pixels are NaN or infinite; mend or remove it")]
    if pixels.min() == pixels.max():
        return [Finding("error", f"{where}: every pixel is {pixels.flat[0]:g}; replace the image")]
    return []


def _duplicates(
    cases: Sequence[Case], inspected: Sequence[_Inspected], split_of: Mapping[str, str]
) -> list[Finding]:
    read = [
        (case, one.sketches)
        for case, one in zip(cases, inspected, strict=True)
        if one.sketches is not None
    ]
    sketches = np.array([both for _, both in read], np.int16).reshape(-1, 2, LENGTH)
    return shared_pictures([case for case, _ in read], sketches, split_of)


def _about_spacing(cases: Sequence[Case], inspected: Sequence[_Inspected]) -> list[Finding]:
    findings = []
    read = [
        (case.case_id, one.spacing)
        for case, one in zip(cases, inspected, strict=True)
        if one.shape is not None
    ]
    unknown = [name for name, spacing in read if spacing is None]
    if unknown:
        findings.append(
            Finding(
                "warning",
                f"spacing is unknown for {_some(unknown, len(read))}; "
                "distances in mm will leave them out",
            )
        )
    low, high = _PLAUSIBLE_MM
    for name, spacing in read:
        if spacing is not None and not all(low <= side <= high for side in spacing):
            size = f"{spacing[0]:g} x {spacing[1]:g} mm"
            findings.append(
                Finding("warning", f"case {name}: a pixel of {size} is implausible; check its unit")
            )
    return findings


def _about_masks(cases: Sequence[Case]) -> list[Finding]:
    """What a mask is worth, where the data set says that it is not a lesion's own outline."""
    surrogate = [case.case_id for case in cases if case.mask_kind == "surrogate"]
    apart = [case.case_id for case in cases if case.pairing == "unregistered"]
    findings = []
    if surrogate:
        findings.append(
            Finding(
                "warning",
                f"the masks of {_some(surrogate, len(cases))} are surrogates (discs, boxes or "
                "rough polygons); overlap with them says less than overlap with a lesion",
            )
        )
    if apart:
        findings.append(
            Finding(
                "warning",
                f"X-ray and DRR of {_some(apart, len(cases))} are not registered; the mask is the "
                "DRR's, and the X-ray shows the lesion elsewhere",
            )
        )
    return findings


def _about_card(source: Source) -> list[Finding]:
    """What `attnseg data build` vouched for, and is otherwise now."""
    if "manifest" not in source.record:
        return []
    images, tables = changed_files(Path(source.record["manifest"]))
    return [
        *(Finding("error", message) for message in images),
        *(Finding("warning", message) for message in tables),
    ]


def _about_unlabelled(source: Source) -> list[Finding]:
    """Images that nobody has read: whether they open, and that they train nothing."""
    cases = unlabelled_cases(source)
    if not cases:
        return []
    findings = []
    for case in cases:
        try:
            path = case.xray or case.drr or Path()
            found = _about_pixels(str(path), read_image(path).pixels)
        except DataError as error:
            found = _errors(error)
        findings += found
    count = f"{len(cases)} cases are" if len(cases) > 1 else "1 case is"
    message = f"{count} unlabelled: for domain adaptation, neither trained on nor measured"
    return [*findings, Finding("warning", message)]


def _about_size(cases: Sequence[Case], inspected: Sequence[_Inspected], size: int) -> list[Finding]:
    small = [
        case.case_id
        for case, one in zip(cases, inspected, strict=True)
        if one.shape is not None and max(one.shape) < size
    ]
    if not small:
        return []
    names = _some(small, len(cases))
    return [Finding("warning", f"data.size={size} scales up {names}; a smaller size loses nothing")]


def _about_splits(
    cases: Sequence[Case], inspected: Sequence[_Inspected], config: DataConfig
) -> list[Finding]:
    try:
        splits = make_splits(cases, config.split)
    except UserError as error:
        return [*_duplicates(cases, inspected, {}), *_errors(error)]
    split_of = split_of_patients(splits)
    findings = [*_duplicates(cases, inspected, split_of), *similar_patients(split_of)]
    if note := unused_split_column(cases, config.split):
        findings.append(Finding("warning", note))
    positive = {case.case_id for case, one in zip(cases, inspected, strict=True) if one.positive}
    for name in ("train", "val"):
        members = splits.train if name == "train" else splits.val
        if members and not any(case.case_id in positive for case in members):
            message = (
                f"no case of the {name} split has a lesion; nothing can be learned or measured"
            )
            findings.append(Finding("error" if name == "train" else "warning", message))
    return findings


def _errors(error: UserError) -> list[Finding]:
    problems = error.problems if isinstance(error, DataError) else []
    return [Finding("error", message) for message in problems or [str(error)]]


def _some(names: Sequence[str], total: int) -> str:
    return f"{len(names)} of {total} cases ({some(names)})"


def _summary(cases: Sequence[Case], inspected: Sequence[_Inspected]) -> list[str]:
    """What the data set is, as far as it could be read."""
    read = [one for one in inspected if one.shape is not None]
    patients = len({case.patient_id for case in cases})
    positive = sum(one.positive for one in read)
    lines = [f"cases:    {len(cases):,} of {patients:,} patients, {positive:,} of them positive"]
    if len(read) < len(cases):
        lines[0] += f" ({len(cases) - len(read):,} could not be read)"
    sizes = Counter(one.shape for one in read if one.shape is not None)
    if sizes:
        common = [f"{h} x {w} px ({count:,})" for (h, w), count in sizes.most_common(_SIZES)]
        more = f" and {len(sizes) - _SIZES:,} others" if len(sizes) > _SIZES else ""
        lines.append(f"sizes:    {', '.join(common)}{more}")
        lines.append(f"spacing:  {_spacings([one.spacing for one in read])}")
    return lines


def _spacings(spacings: Sequence[Spacing | None]) -> str:
    known = np.array([spacing for spacing in spacings if spacing is not None])
    if not len(known):
        return "unknown"
    text = f"{known.min():.3g} to {known.max():.3g} mm a pixel, median {np.median(known):.3g}"
    unknown = len(spacings) - len(known)
    return text + (f"; unknown for {unknown:,} cases" if unknown else "")


def _in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Errors before warnings, each once, otherwise as they were found."""
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.level != "error")
