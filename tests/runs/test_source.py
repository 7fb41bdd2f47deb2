"""Source as content: what counts as a change, and what a module imports."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from attnseg.runs.source import Module, Sources, closure, find, parse

BEFORE = '''
"""A network."""
import torch

class Net(torch.nn.Module):
    """What it does."""

    width: int = 3
    """How wide."""

    def forward(self, x):
        """Apply."""
        y = torch.relu(x)  # sharp
        return y
'''


def test_comments_layout_and_docstrings_are_no_change() -> None:
    after = (
        BEFORE.replace("What it does", "It does this")
        .replace("  # sharp", "\n\n        # soft?")
        .replace("torch.relu(x)", "torch.relu(\n            x,\n        )")
        .replace('        """Apply."""\n', "")
        .replace("How wide.", "Its width.")
    )
    assert parse(after.encode()).tree == parse(BEFORE.encode()).tree
    assert parse(after.encode()).raw != parse(BEFORE.encode()).raw


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.relu", "torch.tanh"),
        ("int = 3", "int = 4"),
        ("return y", "return x"),
        ("class Net", "class Nets"),
        ("(self, x)", "(self, x, z=None)"),
        ("import torch\n", "import torch\nimport sys\n"),
    ],
)
def test_anything_else_is(old: str, new: str) -> None:
    assert old in BEFORE
    assert parse(BEFORE.replace(old, new).encode()).tree != parse(BEFORE.encode()).tree


@pytest.mark.parametrize("text", [b"def f(:", b"\0", b"x = '\xff'", b"(" * 5000])
def test_what_is_no_python_is_known_by_its_bytes(text: bytes) -> None:
    source = parse(text)
    assert (source.tree, source.imports) == (source.raw, ())


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))


FILES = {
    "lab/__init__.py": "",
    "lab/nets/__init__.py": "from .unet import UNet",
    "lab/nets/unet.py": """
        from __future__ import annotations
        import torch
        from typing import TYPE_CHECKING
        from . import blocks
        from ..act import relu
        from lab import late as later
        if TYPE_CHECKING:
            from lab import hints
        def build():
            import lab.inner.deep
            import importlib
            importlib.import_module("lab.named")
            return importlib.import_module(".near", "lab.nets")
    """,
    "lab/nets/blocks.py": "from lab.starred import *",
    "lab/starred/__init__.py": "__all__ = ['one']",
    "lab/starred/one.py": "import beside",
    "lab/act.py": "",
    "lab/late.py": "import lab.nets.unet  # a circle",
    "lab/hints.py": "",
    "lab/inner/deep.py": "",  # in a namespace package
    "lab/named.py": "",
    "lab/nets/near.py": "",
    "lab/unused.py": "",
    "beside.py": "",
}


def test_every_static_import_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, FILES)
    monkeypatch.syspath_prepend(str(tmp_path))
    looked_at: list[str] = []

    def follows(module: Module) -> bool:
        looked_at.append(module.name)
        return module.file is None or tmp_path in module.file.parents

    found = closure(["lab.nets"], follows, Sources(None))
    assert set(found) == set(FILES) - {"lab/unused.py", "lab/hints.py"}
    assert "torch" in looked_at  # asked about, and not followed
    assert not any(name.partition(".")[0] in ("lab", "beside") for name in sys.modules)


def test_nothing_is_imported_to_find_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"trap/__init__.py": "raise SystemExit('run')", "trap/inner.py": ""})
    monkeypatch.syspath_prepend(str(tmp_path))
    module = find("trap.inner")
    assert module is not None and module.file == tmp_path / "trap" / "inner.py"
    for name in ("", ".", "trap.", "trap..inner", "trap.absent", "absent.inner", "trap.inner.Net"):
        assert find(name) is None


def test_what_was_parsed_is_remembered_by_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, cache = tmp_path / "a.py", tmp_path / "cache" / "sources.json"
    file.write_text("from . import b")
    sources = Sources(cache)
    first = sources.read(file)
    sources.save()
    monkeypatch.setattr("attnseg.runs.source.parse", None)  # is not called again
    assert Sources(cache).read(file) == first
    cache.write_text("{")
    with pytest.raises(TypeError):
        Sources(cache).read(file)
