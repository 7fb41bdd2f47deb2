"""A case set's data card: what is in it, in numbers, for people (Markdown) and programs (JSON)."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from attnseg.data.case_set.write import Built
from attnseg.imaging.case import Case

DIAMETERS_MM = (6.0, 10.0, 20.0, 30.0)
"""Limits of the sizes that lesions are counted by; 10 and 20 are those of the metrics."""

DIAMETERS_PX = (8.0, 16.0, 32.0)


def make_card(
    *,
    title: str,
    license_text: str | None,
    build_id: str,
    record: Mapping[str, Any],
    cases: Sequence[tuple[Case, Built, str]],
    files: Mapping[str, str],
) -> dict[str, Any]:
    """The card as plain types; no date, so that the same source gives the same card.

    Args:
        title: of the set.
        license_text: as the user gave it.
        build_id: of source and options.
        record: the source's.
        cases: each with what became of it and its split, the unlabelled ones too.
        files: path below the set's folder to sha256, of every file but the card.
    """
    labelled = [one for one in cases if one[0].labelled]
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return {
        "title": title,
        "build_id": build_id,
        "license": license_text,
        "source": dict(record),
        "counts": {**_counts(labelled), "unlabelled": len(cases) - len(labelled)},
        "splits": {
            name: _counts([one for one in labelled if one[2] == name])
            for name in ("train", "val", "test")
        },
        "pairing": _tally(case.pairing or "unstated" for case, _, _ in labelled),
        "mask_kind": _tally(case.mask_kind or "unstated" for case, _, _ in labelled),
        "reader": _tally(case.reader or "unstated" for case, _, _ in labelled),
        "files_are": _tally(how for _, built, _ in cases for how in built.how.values()),
        "images": _about_images([built for _, built, _ in cases]),
        "lesions": _about_lesions([built for _, built, _ in labelled]),
        "sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "files": dict(sorted(files.items())),
        "fingerprints": {case.case_id: built.fingerprint for case, built, _ in cases},
    }


def _counts(cases: Sequence[tuple[Case, Built, str]]) -> dict[str, int]:
    positive = sum(bool(built.lesions) for _, built, _ in cases)
    return {
        "cases": len(cases),
        "patients": len({case.patient_id for case, _, _ in cases}),
        "positive": positive,
        "negative": len(cases) - positive,
        "lesions": sum(len(built.lesions) for _, built, _ in cases),
    }


def _tally(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _about_images(built: Sequence[Built]) -> dict[str, Any]:
    known = [one.spacing for one in built if one.spacing is not None]
    return {
        "height_px": _range([one.shape[0] for one in built]),
        "width_px": _range([one.shape[1] for one in built]),
        "pixel_mm": _range([side for pair in known for side in pair]),
        "spacing_unknown": len(built) - len(known),
        "dtype": _tally(one.dtype for one in built),
    }


def _about_lesions(built: Sequence[Built]) -> dict[str, Any]:
    """Equivalent diameters (of the disc of the same area), in px and where it is known in mm."""
    in_px, in_mm, shares = [], [], []
    for one in built:
        for pixels in one.lesions:
            in_px.append(2.0 * math.sqrt(pixels / math.pi))
            if one.spacing is not None:
                in_mm.append(2.0 * math.sqrt(pixels * one.spacing[0] * one.spacing[1] / math.pi))
        if one.lesions:
            shares.append(sum(one.lesions) / (one.shape[0] * one.shape[1]))
    return {
        "per_positive_case": _range([len(one.lesions) for one in built if one.lesions]),
        "share_of_image": _range(shares),
        "diameter_mm": _range(in_mm),
        "by_diameter_mm": _by_size(in_mm, DIAMETERS_MM),
        "diameter_px": _range(in_px),
        "by_diameter_px": _by_size(in_px, DIAMETERS_PX),
    }


def _range(values: Sequence[float]) -> dict[str, float] | None:
    """Least, median and largest, to 4 significant digits; None of nothing."""
    if not values:
        return None
    found = (min(values), float(np.median(values)), max(values))
    return {
        name: float(f"{value:.4g}")
        for name, value in zip(("least", "median", "largest"), found, strict=True)
    }


def _by_size(values: Sequence[float], limits: Sequence[float]) -> dict[str, int]:
    """How many lie between the limits; one on a limit counts above it."""
    edges = [-math.inf, *limits, math.inf]
    names = [
        f"below {limits[0]:g}",
        *(f"{low:g} to {high:g}" for low, high in pairwise(limits)),
        f"above {limits[-1]:g}",
    ]
    return {
        name: sum(edges[i] <= value < edges[i + 1] for value in values)
        for i, name in enumerate(names)
    }


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card as a page."""
    counts, images, lesions = card["counts"], card["images"], card["lesions"]
    rows = [
        f"| {name} | " + " | ".join(str(part[key]) for key in _COUNTED) + " |"
        for name, part in (*card["splits"].items(), ("all", counts))
    ]
    unlabelled = counts["unlabelled"]
    lines = [
        f"# {card['title']}",
        "",
        f"Made by `attnseg data build` from a source of kind `{card['source'].get('name', '?')}`. "
        "Read it with `data=manifest data.root=<this folder> data.split.kind=fixed`.",
        "",
        "## License",
        "",
        card["license"] or "Not stated by whoever made this set: ask before sharing it.",
        "",
        "## Cases, split by patient",
        "",
        f"| split | {' | '.join(_COUNTED)} |",
        "|---" * (len(_COUNTED) + 1) + "|",
        *rows,
        "",
        f"{unlabelled} unlabelled cases are listed apart: for domain adaptation alone."
        if unlabelled
        else "No unlabelled cases.",
        "",
        "## What the images and masks are",
        "",
        f"- masks: {_words(card['mask_kind'])} (surrogate: a disc, box or rough polygon)",
        f"- X-ray and DRR: {_words(card['pairing'])}",
        f"- read by: {_words(card['reader'])}",
        f"- height {_span(images['height_px'])} px, width {_span(images['width_px'])} px, "
        f"pixel {_span(images['pixel_mm'])} mm ({images['spacing_unknown']} unknown), "
        f"{_words(images['dtype'])}",
        f"- files: {_words(card['files_are'])}",
        "",
        "## Lesions",
        "",
        "Components of the masks (pixels that touch, at a corner too), by equivalent diameter.",
        "",
        f"- a positive case has {_span(lesions['per_positive_case'])}",
        f"- they cover {_span(lesions['share_of_image'])} of a positive image",
        f"- diameter {_span(lesions['diameter_mm'])} mm, {_span(lesions['diameter_px'])} px",
        "",
        *_size_table("mm", lesions["by_diameter_mm"]),
        "",
        *_size_table("px", lesions["by_diameter_px"]),
        "",
        "## Integrity",
        "",
        f"sha256 over the list of all files: `{card['sha256']}`; each file's own is in "
        "DATA_CARD.json, and `attnseg data check` compares them.",
        "",
        "## Source",
        "",
        "```json",
        json.dumps(card["source"], indent=2),
        "```",
    ]
    return "\n".join(lines) + "\n"


_COUNTED = ("cases", "patients", "positive", "negative", "lesions")


def _words(tally: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in tally.items()) or "none"


def _span(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "unknown"
    if found["least"] == found["largest"]:
        return f"{found['least']:g}"
    return f"{found['least']:g} to {found['largest']:g} (median {found['median']:g})"


def _size_table(unit: str, tally: Mapping[str, int]) -> list[str]:
    return [
        f"| {unit} | " + " | ".join(tally) + " |",
        "|---" * (len(tally) + 1) + "|",
        "| lesions | " + " | ".join(str(count) for count in tally.values()) + " |",
    ]
