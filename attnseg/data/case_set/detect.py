"""What kind of data set a path is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from attnseg.common.errors import ConfigError
from attnseg.common.files import user_path

_JSRT = re.compile(r"JPC[LN]N\d{3}\.\w+", re.IGNORECASE)
_LOOKED_AT = 20_000  # file names; a set of them shows itself much earlier


def detect_source(path: Path) -> tuple[str, Path]:
    """The name of the data source and its root.

    Args:
        path: a manifest, or a folder: with a manifest.csv (as `attnseg drr` and `attnseg data
            build` write it), or in the layout of lidc_drr, jsrt, node21 or chestx_det.

    Raises:
        ConfigError: it is not there, or none of these.
    """
    path = user_path(path)
    if not path.exists():
        raise ConfigError(f"source={path}: no such file or folder, and no kind of data set either")
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise ConfigError(f"source={path}: a file must be a manifest (CSV)")
        return "manifest", path
    if (path / "manifest.csv").is_file():
        return "manifest", path / "manifest.csv"
    for name in islice(_names(path), _LOOKED_AT):
        if name.endswith("_drr.png"):
            return "lidc_drr", path
        if name.lower() == "clndat_en.txt" or _JSRT.fullmatch(name):
            return "jsrt", path
        if name == "metadata.csv":
            return "node21", path
        if name.startswith("ChestX_Det") and name.endswith(".json"):
            return "chestx_det", path
    raise ConfigError(
        f"source={path}: is in no known layout: no manifest.csv, *_drr.png, CLNDAT_EN.txt, "
        "metadata.csv or ChestX_Det*.json in it; say what it is with data=<kind> data.root=<path>"
    )


def _names(folder: Path) -> Iterator[str]:
    """Names of files below a folder, the shallow ones first."""
    level = [folder]
    while level:
        deeper: list[Path] = []
        for inside in level:
            for entry in sorted(inside.iterdir()):
                if entry.is_dir():
                    deeper.append(entry)
                else:
                    yield entry.name
        level = deeper
