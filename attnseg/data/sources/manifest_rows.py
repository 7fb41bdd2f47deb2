"""The rows of a manifest; what its columns mean is told in `manifest`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from attnseg.common.errors import ConfigError
from attnseg.common.files import user_path
from attnseg.common.tables import read_table
from attnseg.data.sources.files import parse_spacing
from attnseg.imaging.case import Case, MaskKind, Pairing, Spacing

NEEDED = ("case", "patient", "xray", "drr", "mask")
OPTIONAL = ("spacing", "split", "pairing", "mask_kind", "reader")
NO_LESION = "none"
UNLABELLED = "unlabelled"
PAIRINGS: tuple[Pairing, ...] = get_args(Pairing)
MASK_KINDS: tuple[MaskKind, ...] = get_args(MaskKind)


def read_rows(path: Path) -> tuple[list[Case], list[str]]:
    """The usable rows as cases (those without a mask too), and what is wrong with the others.

    Raises:
        ConfigError: the file cannot be read, or a column is missing.
    """
    cases: list[Case] = []
    problems: list[str] = []
    lines: dict[str, int] = {}
    hint = f"; the first line must name {', '.join(NEEDED)} (and may name {', '.join(OPTIONAL)})"
    for line, words in read_table(path, NEEDED, hint):
        case, found = _parse_row(words, path.parent)
        problems += [f"{path}, line {line}: {problem}" for problem in found]
        if case is not None and case.case_id in lines:
            problems.append(
                f"{path}, line {line}: duplicate case {case.case_id!r}, already in "
                f"line {lines[case.case_id]}; give every row its own name"
            )
        elif case is not None:
            lines[case.case_id] = line
            cases.append(case)
    return cases, problems


def _parse_row(words: dict[str, str], folder: Path) -> tuple[Case | None, list[str]]:
    problems = [f"{name} is blank" for name in ("case", "patient") if not words[name]]
    if not words["xray"] and not words["drr"]:
        problems.append("xray and drr are both blank; give at least one image")
    if not words["mask"]:
        problems.append(
            f"mask is blank; write '{NO_LESION}' if the case is known to have no lesion, "
            f"'{UNLABELLED}' if nobody has read it, else leave the case out"
        )
    unlabelled = words["mask"].lower() == UNLABELLED
    pairing, mask_kind = _pairing(words, problems), _mask_kind(words, problems)
    spacing: Spacing | None = None
    if words.get("spacing"):
        try:
            spacing = parse_spacing(words["spacing"])
        except ValueError:
            problems.append(f"spacing is {words['spacing']!r}; write mm as 0.7 or 0.7x0.8")
    if problems:
        return None, [f"case {words['case'] or '?'}: {problem}" for problem in problems]

    def file(name: str) -> Path | None:
        return folder / user_path(words[name]) if words[name] else None

    healthy = words["mask"].lower() == NO_LESION
    case = Case(
        case_id=words["case"],
        patient_id=words["patient"],
        drr=file("drr"),
        xray=file("xray"),
        mask=None if healthy or unlabelled else file("mask"),
        spacing=spacing,
        split=words.get("split") or None,
        pairing=pairing,
        mask_kind=None if unlabelled else mask_kind,
        reader=words.get("reader") or None,
        labelled=not unlabelled,
    )
    return case, []


def _pairing(words: dict[str, str], problems: list[str]) -> Pairing | None:
    """The column's word if it fits the row's images; what is evident where it is blank."""
    evident: Pairing | None = None
    if bool(words["xray"]) != bool(words["drr"]):
        evident = "same" if words["drr"] else "unpaired"
    elif words["xray"] and words["xray"] == words["drr"]:
        evident = "same"
    word = words.get("pairing", "").lower()
    for known in PAIRINGS:
        if word == known:
            if evident is not None and word != evident:
                problems.append(f"pairing is {word}, but the row gives one image ({evident})")
            elif evident is None and word in ("same", "unpaired") and words["xray"]:
                problems.append(f"pairing is {word}, but the row gives an X-ray and a DRR")
            return known
    if word:
        shown = ", ".join(PAIRINGS)
        problems.append(f"pairing is {words['pairing']!r}; use {shown}, or leave it blank")
    return evident


def _mask_kind(words: dict[str, str], problems: list[str]) -> MaskKind | None:
    word = words.get("mask_kind", "").lower()
    for known in MASK_KINDS:
        if word == known:
            return known
    if word:
        problems.append(f"mask_kind is {words['mask_kind']!r}; use exact or surrogate")
    return None


def existing_manifest(configured: str | None) -> Path:
    """The manifest that `data.root` means: a CSV, or a folder that holds manifest.csv.

    Raises:
        ConfigError: not set, or not there.
    """
    hint = "set data.root=/path/to/manifest.csv (columns " + ", ".join(NEEDED) + ")"
    if not configured:
        raise ConfigError(f"data.root is not set, and data=manifest needs it; {hint}")
    path = user_path(configured)
    path = path / "manifest.csv" if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(f"data.root={configured}: there is no file {path}; {hint}")
    return path
