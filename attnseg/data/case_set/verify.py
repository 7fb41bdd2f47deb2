"""Whether a case set is still what its data card vouches for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

_TABLES = ("manifest.csv", "splits.csv")


def changed_files(manifest: Path) -> tuple[list[str], list[str]]:
    """Files that are not what the card beside a manifest says; nothing where there is no card.

    Returns:
        Lines about images and masks, and lines about the tables, which a user may have edited.
    """
    try:
        files = json.loads((manifest.parent / "DATA_CARD.json").read_text())["files"]
        listed = {str(name): str(digest) for name, digest in files.items()}
    except FileNotFoundError:
        return [], []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [], [f"{manifest.parent / 'DATA_CARD.json'}: is no data card; build the set anew"]
    images: list[str] = []
    tables: list[str] = []
    for name, digest in listed.items():
        path = manifest.parent / name
        try:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            images.append(f"{path}: is in DATA_CARD.json, but not there; build the set anew")
            continue
        if found != digest:
            line = f"{path}: has changed since the set was built (DATA_CARD.json has its sha256)"
            (tables if name in _TABLES else images).append(line)
    return images, tables
