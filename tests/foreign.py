"""A package of somebody else's, for the length of a test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def package(folder: Path, source: str, name: str = "mylab") -> Iterator[Path]:
    """`<name>.parts` with that source, importable inside the block; gives the package's folder."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    (folder / name / "parts.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for loaded in [known for known in sys.modules if known.split(".")[0] == name]:
            patch.delitem(sys.modules, loaded)
        yield folder / name
        for loaded in [known for known in sys.modules if known.split(".")[0] == name]:
            del sys.modules[loaded]
