"""`attnseg data build`: a case set (manifest, images, splits, data card) from any source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnseg.commands.help import group_options
from attnseg.common.errors import ConfigError
from attnseg.config import DataBuildConfig
from attnseg.config.compose import compose_checked


def build(overrides: Sequence[str]) -> int:
    """Build (or finish) a case set, and say where it is. Returns 0."""
    config = compose_checked("data_build", chosen_source(overrides), DataBuildConfig)
    from attnseg.data.case_set.building import build_case_set

    card = build_case_set(config)
    print(_summary(card, Path(config.out)))
    return 0


def chosen_source(overrides: Sequence[str]) -> list[str]:
    """`source=KIND` or `source=PATH` in terms of the group data.

    Raises:
        ConfigError: no source is given, or the path is in no known layout.
    """
    rest = [word for word in overrides if not word.startswith("source=")]
    given = [word.removeprefix("source=") for word in overrides if word.startswith("source=")]
    kinds = group_options("data")
    if not given:
        if not any(word.startswith(("data=", "data.root=")) for word in rest):
            raise ConfigError(
                "source is not set, and is needed: add source=PATH (a manifest, or a folder in one "
                f"of the layouts {', '.join(kinds)})"
            )
        return rest
    if given[-1] in kinds:
        roots = [f"data.{word}" if word.startswith("root=") else word for word in rest]
        return [f"data={given[-1]}", *roots]
    from attnseg.data.case_set.detect import detect_source

    kind, root = detect_source(Path(given[-1]))
    return [f"data={kind}", f"data.root={root}", *rest]


def _summary(card: dict[str, Any], out: Path) -> str:
    counts, splits = card["counts"], card["splits"]
    parts = ", ".join(f"{name} {splits[name]['cases']}" for name in splits)
    head = "case set (nothing to do, it is complete)" if card.get("already_built") else "case set"
    unlabelled = f", {counts['unlabelled']} unlabelled" if counts["unlabelled"] else ""
    return "\n".join(
        [
            f"{counts['cases']} cases of {counts['patients']} patients ({parts}), "
            f"{counts['positive']} positive with {counts['lesions']} lesions{unlabelled}",
            f"{head}: {out}/manifest.csv, card: {out}/DATA_CARD.md",
            f"use: attnseg train data=manifest data.root={out} data.split.kind=fixed",
        ]
    )
