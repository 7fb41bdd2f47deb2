"""Python source as content: digests, and what it imports, found without importing anything."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnseg.common.files import write_text

_DIGITS = 12
_KEPT = 5000  # files that a cache remembers

Import = tuple[int, str, tuple[str, ...]]
"""Dots, module, and the names taken from it: `from ..a import b` is (2, "a", ("b",))."""


@dataclass(frozen=True)
class Source:
    """What one file is.

    Attributes:
        tree: digest of the syntax tree: comments, layout and docstrings do not count.
        raw: digest of the bytes.
        imports: every static import, inside functions too, but none for type checkers alone.
    """

    tree: str
    raw: str
    imports: tuple[Import, ...]


@dataclass(frozen=True)
class Module:
    """A module's place: its file (a namespace package has none), a package's folders."""

    name: str
    file: Path | None
    folders: tuple[str, ...]


def digest_of(text: bytes) -> str:
    """Twelve hex digits of SHA-256."""
    return hashlib.sha256(text).hexdigest()[:_DIGITS]


def parse(text: bytes) -> Source:
    """Digests and imports of a file's bytes; what is no Python is known by its bytes alone."""
    raw = digest_of(text)
    try:
        tree = ast.parse(text)
        imports = tuple(dict.fromkeys(_imports(tree)))
        return Source(digest_of(ast.dump(tree).encode()), raw, imports)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Source(raw, raw, ())


def _imports(tree: ast.Module) -> Iterator[Import]:
    """Every import; on the way, docstrings and other strings that stand alone are taken out."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [each for each in body if not _does_nothing(each)]
        match node:
            case ast.Import():
                yield from ((0, alias.name, ()) for alias in node.names)
            case ast.ImportFrom():
                yield node.level, node.module or "", tuple(alias.name for alias in node.names)
            case ast.Call(args=[ast.Constant(value=str(name)), *_]) if _imports_by_name(node.func):
                yield len(name) - len(name.lstrip(".")), name.lstrip("."), ()
            case ast.Assign(
                targets=[ast.Name(id="__all__")], value=ast.List(elts=each) | ast.Tuple(elts=each)
            ):  # of a package, these may be modules that `from package import *` brings along
                yield 1, "", tuple(str(one.value) for one in each if isinstance(one, ast.Constant))
        if isinstance(node, ast.If) and _name_of(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _does_nothing(node: ast.AST) -> bool:
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def _imports_by_name(called: ast.expr) -> bool:
    return _name_of(called) in ("import_module", "__import__")


def _name_of(node: ast.expr) -> str | None:
    """The last part of a dotted name."""
    return getattr(node, "attr", None) or getattr(node, "id", None)


class Sources:
    """Sources by their bytes, kept in a file: parsing costs ten times what reading does.

    Args:
        cache: where they are kept, or None.
    """

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._known: dict[str, Any] = {}
        self._grown = False
        if cache is not None:
            with suppress(OSError, ValueError):
                self._known = dict(json.loads(cache.read_text()))

    def read(self, path: Path) -> Source:
        """A file's source."""
        text = path.read_bytes()
        raw = hashlib.sha256(text).hexdigest()
        if raw not in self._known:
            source = parse(text)
            self._known[raw] = [
                source.tree,
                [[n, m, list(names)] for n, m, names in source.imports],
            ]
            self._grown = True
        tree, imports = self._known[raw]
        return Source(tree, raw[:_DIGITS], tuple((n, m, tuple(names)) for n, m, names in imports))

    def save(self) -> None:
        """Write what is new; where that cannot be, it is parsed again next time."""
        if self._grown and self._cache is not None:
            with suppress(OSError):
                write_text(self._cache, json.dumps(dict([*self._known.items()][-_KEPT:])))


def closure(
    roots: Iterable[str], follows: Callable[[Module], bool], sources: Sources
) -> dict[str, Source]:
    """The source of modules and of all that they import, directly or not.

    Args:
        roots: dotted names of modules.
        follows: whether a module counts; what one that does not imports is not looked at.
        sources: reads the files.

    Returns:
        By name of the file as seen from where its package lies (`mylab/nets.py`).
    """
    importlib.invalidate_caches()
    found: dict[str, Source] = {}
    waiting, seen = list(roots), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        module = find(name)
        if module is None or not follows(module):
            continue
        parent = name.rpartition(".")[0]
        waiting += [parent] if parent else []  # importing a.b runs a/__init__.py
        if module.file is None:
            continue
        source = sources.read(module.file)
        package = name if module.folders else parent
        found["/".join([*package.split("."), module.file.name]).lstrip("/")] = source
        for dots, target, names in source.imports:
            base = _absolute(dots, target, package)
            waiting += [base, *(f"{base}.{each}" for each in names)] if base else []
    return found


def _absolute(dots: int, target: str, package: str) -> str:
    """The dotted name that an import inside a package means; "" where it leads out of the top."""
    if dots == 0:
        return target
    parts = package.split(".")
    kept = parts[: len(parts) - dots + 1] if package else []
    return ".".join([*kept, target] if target else kept) if kept else ""


def find(name: str) -> Module | None:
    """Where a module lies, by path alone: no package is imported on the way.

    Returns:
        None where there is none, or one without Python source.
    """
    top, *rest = name.split(".")
    module = _find_top(top)
    for part in rest:
        module = _find_inside(module, part) if module else None
    return module


def _find_top(name: str) -> Module | None:
    """As Python does, which imports nothing for a name without dots."""
    spec = None
    with suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None:
        return None
    file = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    folders = tuple(spec.submodule_search_locations or ())
    return Module(name, file, folders) if file or folders else None


def _find_inside(package: Module, part: str) -> Module | None:
    if not part.isidentifier():
        return None
    name, places = f"{package.name}.{part}", [Path(folder) / part for folder in package.folders]
    for place in places:
        if (file := place / "__init__.py").is_file():
            return Module(name, file, (str(place),))
        if (file := place.with_suffix(".py")).is_file():
            return Module(name, file, ())
    namespace = tuple(str(place) for place in places if place.is_dir())
    return Module(name, None, namespace) if namespace else None


def homes(module: Module) -> set[Path]:
    """The folders that a top-level module or package lies in: what is on Python's path."""
    if module.folders:
        return {Path(folder).parent for folder in module.folders}
    return {module.file.parent} if module.file else set()
