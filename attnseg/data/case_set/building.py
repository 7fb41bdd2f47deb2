"""`attnseg data build`: a source becomes a case set that stands alone.

    out/manifest.csv           data=manifest reads it; written last, so that it never lacks a file
    out/splits.csv             patient, split: for data.split.file
    out/images/, masks/        links, copies, or converted files
    out/unlabelled/            X-rays that nobody has read
    out/DATA_CARD.md, .json    counts, sizes, hashes

Everything wrong with the source is told at once, and then nothing is listed in a manifest.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnseg.common.errors import ConfigError, DataError, UserError
from attnseg.common.files import (
    csv_text,
    make_folder,
    remove_temporaries,
    user_path,
    write_json,
    write_text,
)
from attnseg.common.parallel import for_each
from attnseg.config import DataBuildConfig
from attnseg.data.case_set.card import card_markdown, make_card
from attnseg.data.case_set.write import IMAGES, MASKS, STATE, UNLABELLED, Built, Plan, WriteCase
from attnseg.data.sources import build_source, unlabelled_cases, why_empty
from attnseg.data.sources.base import Source
from attnseg.data.sources.manifest_rows import NEEDED, NO_LESION, OPTIONAL
from attnseg.data.sources.manifest_rows import UNLABELLED as NO_MASK
from attnseg.data.splits import SPLIT_NAMES, make_splits
from attnseg.imaging.case import Case

CARD = "DATA_CARD.json"
_PARTS = (IMAGES, MASKS, UNLABELLED)
_OURS = {*_PARTS, STATE, CARD, "DATA_CARD.md", "manifest.csv", "splits.csv"}


def build_case_set(
    config: DataBuildConfig, *, workers: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Make a case set, or finish one that was begun.

    Args:
        config: source, folder, options.
        workers: processes; None chooses.
        progress: draw a bar on stderr.

    Returns:
        The data card; its `already_built` says that nothing had to be done.

    Raises:
        ConfigError: the folder is not free, or belongs to another set.
        DataError: lists everything that is wrong with the source.
    """
    out = user_path(config.out)
    source = build_source(config.data)
    build_id = _build_id(config)
    finished = _claim(out, build_id)
    cases = [*source.cases(), *unlabelled_cases(source)]
    plans = _plan([_told(case, config) for case in cases])
    if finished is not None:
        _refuse_changed(out, finished, plans, source, config)
        return {**finished, "already_built": True}
    problems = list(source.problems())
    if not source.cases():
        problems.append(why_empty(source))
    splits = _splits(source, config, problems)
    built = for_each(
        WriteCase(source, out, config.images),
        plans,
        description="building cases",
        workers=workers,
        progress=progress,
    )
    for plan, one in zip(plans, built, strict=True):
        problems += [f"case {plan.case.case_id}: {problem}" for problem in one.problems]
    problems += _leaks(plans, built)
    if problems:
        raise DataError(
            f"{out} was not made, because of its source:", list(dict.fromkeys(problems))
        )
    rows = [
        (plan.case, one, splits.get(plan.case.patient_id, "train"))
        for plan, one in zip(plans, built, strict=True)
    ]
    return _publish(out, config, build_id, source, rows)


def _build_id(config: DataBuildConfig) -> str:
    """16 hex digits of what decides a set: source, split, options; not how it is trained on."""
    free = {"batch_size", "eval_batch_size", "num_workers", "cache_dir", "size", "patch", "augment"}
    # Of a section that was in the digest from the start, what came later stays out of it.
    later = {
        "split": {"train_fraction"},
        "synthetic": {"axis_ratio", "blur_px", "bright_contrast", "margin_px", "power"},
    }
    content = {
        "data": config.data.model_dump(mode="json", exclude={**dict.fromkeys(free, True), **later}),
        **config.model_dump(mode="json", include={"images", "pairing", "mask_kind", "reader"}),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _claim(out: Path, build_id: str) -> dict[str, Any] | None:
    """Make the folder ours; the card of a set that is finished there already."""
    make_folder(out, "out")
    with suppress(OSError, ValueError):
        card: dict[str, Any] = json.loads((out / CARD).read_text())
        if card.get("build_id") != build_id:
            raise ConfigError(
                f"out={out}: holds another case set ({card.get('title')}); choose another folder"
            )
        if (out / "manifest.csv").is_file():
            return card
    mark = out / STATE / "id"
    begun = mark.read_text().strip() if mark.is_file() else None
    others = sorted(path.name for path in out.iterdir() if path.name not in _OURS)
    if (begun is None and any(out.iterdir())) or others:
        shown = ", ".join((others or sorted(path.name for path in out.iterdir()))[:3])
        raise ConfigError(f"out={out}: is not empty ({shown}); choose a new folder")
    if begun is not None and begun != build_id:
        raise ConfigError(
            f"out={out}: another case set was begun there, from another source or with other "
            "options; remove it, or choose another folder"
        )
    write_text(mark, build_id + "\n")
    return None


def _refuse_changed(
    out: Path, card: dict[str, Any], plans: Sequence[Plan], source: Source, config: DataBuildConfig
) -> None:
    """A finished set is not touched; whether it still is what the source would give."""
    now = {plan.case.case_id: f"{config.images}|{source.fingerprint(plan.case)}" for plan in plans}
    was = card.get("fingerprints", {})
    changed = sorted(name for name in now.keys() | was.keys() if now.get(name) != was.get(name))
    if changed:
        raise ConfigError(
            f"out={out}: was built, and its source has changed since ({len(changed)} cases, such "
            f"as {changed[0]}); remove the folder to build it anew, or choose another"
        )


def _told(case: Case, config: DataBuildConfig) -> Case:
    """The case with what the user says of a source that says nothing itself."""
    both = case.xray is not None and case.drr is not None
    return replace(
        case,
        pairing=case.pairing or (config.pairing if both else None),
        mask_kind=case.mask_kind or (config.mask_kind if case.labelled else None),
        reader=case.reader or (config.reader if case.labelled else None),
    )


def _plan(cases: Sequence[Case]) -> list[Plan]:
    """A file name for every case, safe and unique, also where capitals do not count."""
    stems = [re.sub(r"[^\w.+-]+", "_", case.case_id).strip(".") or "case" for case in cases]
    count = Counter(stem.lower() for stem in stems)
    plans = []
    for case, stem in zip(cases, stems, strict=True):
        unique = count[stem.lower()] == 1 and len(stem) <= 180
        digest = hashlib.sha256(case.case_id.encode()).hexdigest()[:8]
        plans.append(Plan(case, stem if unique else f"{stem[:180]}-{digest}"))
    return plans


def _splits(source: Source, config: DataBuildConfig, problems: list[str]) -> dict[str, str]:
    """The split of every patient who has a labelled case."""
    cases = source.cases()
    if not cases:
        return {}
    try:
        splits = make_splits(cases, config.data.split)
    except UserError as error:
        problems += (error.problems if isinstance(error, DataError) else []) or [str(error)]
        return {}
    return {case.patient_id: name for name in SPLIT_NAMES for case in splits[name]}


def _leaks(plans: Sequence[Plan], built: Sequence[Built]) -> list[str]:
    """The same pixels under two patients."""
    same: dict[str, list[Case]] = defaultdict(list)
    for plan, one in zip(plans, built, strict=True):
        if one.digest is not None:
            same[one.digest].append(plan.case)
    found = []
    for group in same.values():
        if len({case.patient_id for case in group}) > 1:
            names = ", ".join(case.case_id for case in group)
            found.append(
                f"cases {names} have the same pixels (patients would leak between splits); keep one"
            )
    return found


def _publish(
    out: Path,
    config: DataBuildConfig,
    build_id: str,
    source: Source,
    rows: Sequence[tuple[Case, Built, str]],
) -> dict[str, Any]:
    """Write what lists the files, the manifest last."""
    files = {name: digest for _, built, _ in rows for name, digest in built.sha256.items()}
    _remove_leftovers(out, set(files))
    manifest = csv_text((*NEEDED, *OPTIONAL), [_row(*row) for row in rows])
    patients = sorted({(case.patient_id, split) for case, _, split in rows})
    splits = csv_text(("patient", "split"), [list(pair) for pair in patients])
    for name, text in (("manifest.csv", manifest), ("splits.csv", splits)):
        files[name] = hashlib.sha256(text.encode()).hexdigest()
    card = make_card(
        title=config.title or f"{source.record['name']} case set",
        license_text=config.license,
        build_id=build_id,
        record=source.record,
        cases=rows,
        files=files,
    )
    write_text(out / "splits.csv", splits)
    write_text(out / "DATA_CARD.md", card_markdown(card))
    write_json(out / CARD, card)
    write_text(out / "manifest.csv", manifest)
    shutil.rmtree(out / STATE)
    return card


def _row(case: Case, built: Built, split: str) -> list[str]:
    spacing = "" if built.spacing is None else "x".join(repr(side) for side in built.spacing)
    mask = built.files.get("mask", NO_LESION) if case.labelled else NO_MASK
    images = [built.files.get(role, "") for role in ("xray", "drr")]
    told = [case.pairing or "", case.mask_kind or "", case.reader or ""]
    return [case.case_id, case.patient_id, *images, mask, spacing, split, *told]


def _remove_leftovers(out: Path, listed: set[str]) -> None:
    """Files of cases that the source no longer has, and what a killed process left."""
    for part in _PARTS:
        folder = out / part
        if not folder.is_dir():
            continue
        remove_temporaries(folder)
        for path in folder.iterdir():
            if str(path.relative_to(out)) not in listed:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
