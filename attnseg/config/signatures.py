"""The options of a component, read from its source text; nothing of it is imported.

A mistyped key must not cost an import of torch, and a class that a configuration names must not
run before it is known to be right. So the constructor's signature is read from the syntax tree of
the file that the dotted name leads to. Where the text does not tell (a re-export, an inherited
constructor, `**kwargs`), `read_signature` says so, and `imported_signature` looks at the class.
"""

from __future__ import annotations

import ast
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from attnseg import component

REQUIRED: Any = inspect.Parameter.empty
"""The default of an option that has none."""

UNTOLD: Any = object()
"""The default of an option whose source text does not tell it."""

_MARKERS = {name: getattr(component, name) for name in component.__all__ if name != "KINDS"}
_TYPES: dict[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, str, bool, list, dict, tuple, set)},
    **{name: getattr(typing, name) for name in ("Any", "Annotated", "Literal", "Optional")},
    **{name: getattr(typing, name) for name in ("Union", "Sequence", "Mapping", "List", "Dict")},
    "Tuple": tuple,
    "None": None,
    **_MARKERS,
}


class Untold(Exception):
    """The source text does not say it."""


@dataclass(frozen=True)
class Option:
    """One keyword argument.

    Attributes:
        annotation: for pydantic; Any where none is written, or none that is plain.
        default: `REQUIRED` where there is none.
        doc: one line; may be empty.
        slot: the kind of component that it holds, if it holds one.
    """

    annotation: Any
    default: Any = REQUIRED
    doc: str = ""
    slot: str | None = None


@dataclass(frozen=True)
class Signature:
    """What a component can be told.

    Attributes:
        target: dotted name of the class or function, where it is defined.
        options: by name, in the order in which they are written.
        open: it takes any other keyword, too.
        doc: the first paragraph of its docstring.
        place: file and line, for messages.
        name: the registered name of one of ours; None of any other.
        asks_for: what it takes of what its kind provides.
        constants: what its class's body says of itself, in plain values.
    """

    target: str
    options: Mapping[str, Option] = field(default_factory=dict)
    open: bool = False
    doc: str = ""
    place: str = ""
    name: str | None = None
    asks_for: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Module:
    """A parsed file.

    Attributes:
        name: dotted.
        path: the file.
        tree: its syntax tree.
    """

    name: str
    path: Path
    tree: ast.Module = field(repr=False, compare=False, hash=False)

    def find(self, name: str) -> ast.stmt | None:
        """The definition (or assignment, or import) of a name at the module's top level."""
        found: ast.stmt | None = None
        for statement in self.tree.body:
            if name in _defined(statement):
                found = statement
        return found


def find_module(dotted: str) -> Module | None:
    """The module or package of that dotted name, parsed and not imported; None where there is none.

    Only the first part is looked for on `sys.path`, since looking for a submodule by
    `importlib.util.find_spec` would import its parents.
    """
    key = (dotted, *sys.path)
    path = _files.get(key)
    with suppress(OSError):
        if path is not None:
            return _parsed(dotted, path, path.stat().st_mtime_ns)
    if (path := _module_file(dotted)) is None:
        return None
    _files[key] = path
    return _parsed(dotted, path, path.stat().st_mtime_ns)


_files: dict[tuple[str, ...], Path] = {}  # of modules that were found, by sys.path


@lru_cache(maxsize=512)
def _parsed(dotted: str, path: Path, _mtime_ns: int) -> Module | None:
    try:
        return Module(dotted, path, ast.parse(path.read_bytes(), str(path)))
    except (OSError, SyntaxError, ValueError):
        return None


def _module_file(dotted: str) -> Path | None:
    top, *rest = dotted.split(".")
    try:
        spec = PathFinder.find_spec(top, None)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    for part in rest[:-1]:
        folders = [folder / part for folder in folders if (folder / part).is_dir()]
    for folder in folders:
        for candidate in (folder / rest[-1] / "__init__.py", folder / f"{rest[-1]}.py"):
            if candidate.is_file():
                return candidate
    return None


def read_signature(target: str, provided: tuple[str, ...] = ()) -> Signature | None:
    """The signature of `package.module.Class` from source, or None where that does not tell.

    Args:
        target: the dotted name.
        provided: arguments that the framework gives; they are no options.
    """
    found = find_definition(target)
    if found is None:
        return None
    module, definition = found
    try:
        function, skipped = _function(definition)
    except Untold:
        return None
    names = [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]
    asks_for = tuple(name for name in provided if name in names)
    options = _options(module, function, skipped, provided)
    doc = (ast.get_docstring(definition) or "").split("\n\n")[0]
    place = f"{module.path}:{definition.lineno}"
    constants = class_constants(definition)
    ours = constants.get("name") if module.name.startswith("attnseg.") else None
    where = f"{module.name}.{definition.name}"
    return Signature(where, options, False, doc, place, ours, asks_for, constants)


def find_definition(
    target: str, depth: int = 0
) -> tuple[Module, ast.ClassDef | ast.FunctionDef] | None:
    """Where a class or function is defined, through explicit re-exports; None if not told."""
    module_name, _, name = target.rpartition(".")
    module = find_module(module_name) if module_name else None
    definition = module.find(name) if module is not None else None
    if module is not None and isinstance(definition, (ast.ClassDef, ast.FunctionDef)):
        return module, definition
    if module is not None and isinstance(definition, ast.ImportFrom) and depth < 10:
        origin = _imported_from(module, definition, name)
        return find_definition(".".join(origin), depth + 1) if origin else None
    return None


def needed_by(target: str, method: str) -> tuple[str, ...]:
    """The arguments without a default of a class's own method; empty where source does not tell."""
    found = find_definition(target)
    for statement in found[1].body if found and isinstance(found[1], ast.ClassDef) else ():
        if isinstance(statement, ast.FunctionDef) and statement.name == method:
            arguments = statement.args
            names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
            return tuple(names[1 : len(names) - len(arguments.defaults)])
    return ()


def class_constants(definition: ast.stmt) -> dict[str, Any]:
    """The plain values that a class's body assigns to names."""
    found: dict[str, Any] = {}
    for statement in definition.body if isinstance(definition, ast.ClassDef) else ():
        match statement:
            case ast.Assign(value=ast.Constant(value=value)):
                found |= dict.fromkeys(_defined(statement), value)
            case ast.AnnAssign(value=ast.Constant(value=value)):
                found |= dict.fromkeys(_defined(statement), value)
    return found


def imported_signature(
    target: str, made: Callable[..., Any], provided: tuple[str, ...] = ()
) -> Signature:
    """The signature of an imported class or function."""
    doc = (inspect.getdoc(made) or "").split("\n\n")[0]
    try:
        parameters = inspect.signature(made).parameters
    except (TypeError, ValueError):  # some built-in types have none; their constructor will object
        return Signature(target, open=True, doc=doc)
    constructor = made.__init__ if inspect.isclass(made) else made
    try:
        hints = typing.get_type_hints(constructor, include_extras=True)
    except Exception:  # an annotation can name anything
        hints = {}
    options = {}
    for name, parameter in parameters.items():
        keyword = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if keyword and name not in provided:
            options[name] = _option(hints.get(name, Any), parameter.default)
    is_open = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    asks_for = tuple(name for name in provided if name in parameters or is_open)
    return Signature(target, options, is_open, doc, target, None, asks_for)


def _function(definition: ast.ClassDef | ast.FunctionDef) -> tuple[ast.FunctionDef, int]:
    """What is called, and how many of its arguments (`self`) are nobody's to give."""
    function, skipped = definition, 0
    if isinstance(function, ast.ClassDef):
        function, skipped = _constructor(function), 1
    if function.args.kwarg is not None:
        raise Untold
    return function, skipped


def _options(
    module: Module, function: ast.FunctionDef, skipped: int, provided: tuple[str, ...]
) -> dict[str, Option]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = list(zip(positional, [*defaults, *arguments.defaults], strict=True))[skipped:]
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    names = {argument.arg for argument in arguments.posonlyargs}
    return {
        argument.arg: _option(
            _annotation(module, argument.annotation),
            REQUIRED if default is None else _default(module, default),
        )
        for argument, default in pairs
        if argument.arg not in provided and argument.arg not in names
    }


def _default(module: Module, node: ast.expr) -> Any:
    try:
        return evaluate(module, node)
    except Untold:
        return UNTOLD


def _constructor(definition: ast.ClassDef) -> ast.FunctionDef:
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return statement
    raise Untold  # inherited, or made by a decorator


def _option(annotation: Any, default: Any) -> Option:
    """An option whose annotation pydantic can check."""
    docs = [mark.documentation for mark in _metadata(annotation) if isinstance(mark, component.Doc)]
    slots = [mark.kind for mark in _metadata(annotation) if isinstance(mark, component.Slot)]
    plain = annotation if _is_plain(annotation) else Any
    if default is None and plain is not Any:
        plain = typing.Optional[plain]  # noqa: UP045 - `x: int = None` is common
    return Option(plain, default, docs[0] if docs else "", slots[0] if slots else None)


def _metadata(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for inner in typing.get_args(annotation):
        if hasattr(inner, "__metadata__"):
            yield from _metadata(inner)


def _is_plain(annotation: Any) -> bool:
    """Whether values of the type can stand in a configuration file."""
    if annotation in (int, float, str, bool, list, dict, tuple, set, None, type(None), Any):
        return True
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return True
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _is_plain(arguments[0])
    plain_origins = (list, dict, tuple, set, typing.Union, *_ABSTRACT, type(int | str))
    return origin in plain_origins and all(a is ... or _is_plain(a) for a in arguments)


_ABSTRACT = tuple(typing.get_origin(kind) for kind in (typing.Sequence, typing.Mapping))


def _annotation(module: Module, node: ast.expr | None) -> Any:
    if node is None:
        return Any
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # a quoted annotation
        node = ast.parse(node.value, mode="eval").body
    try:
        return evaluate(module, node)
    except Untold:  # a type of the author's own: any value
        return Any


def evaluate(module: Module, node: ast.expr, depth: int = 0) -> Any:
    """The value of a constant, a plain type, or a name of either.

    Raises:
        Untold: it is anything else.
    """
    if depth > 20:
        raise Untold

    def again(inner: ast.expr) -> Any:
        return evaluate(module, inner, depth + 1)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.JoinedStr(values=parts):
            return "".join(str(again(part)) for part in parts)
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return again(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(again(operand))
        case ast.Tuple(elts=elements):
            return tuple(again(element) for element in elements)
        case ast.List(elts=elements):
            return [again(element) for element in elements]
        case ast.Dict(keys=keys, values=values):
            return {
                again(_known(key)): again(value) for key, value in zip(keys, values, strict=True)
            }
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union(module, (left, right), depth)
        case ast.Subscript(value=value, slice=ast.Tuple(elts=members)) if (
            again(value) is typing.Union
        ):
            return _union(module, members, depth)
        case ast.Subscript(value=value, slice=ast.Tuple(elts=[kind, *marks])) if (
            again(value) is typing.Annotated
        ):
            return _subscribed(typing.Annotated, (_annotation(module, kind), *map(again, marks)))
        case ast.Subscript(value=value, slice=index):
            return _subscribed(again(value), again(index))
        case ast.Call(func=function, args=arguments, keywords=keywords):
            return _marked(
                again(function),
                [again(argument) for argument in arguments],
                {str(keyword.arg): again(keyword.value) for keyword in keywords},
            )
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner in ("typing", "t", "ct"):
            return _TYPES.get(name, Any)
        case ast.Name(id=name):
            return _named(module, name, depth)
    raise Untold


def _union(module: Module, members: Sequence[ast.expr], depth: int) -> Any:
    """Of `float | Tensor` the part that a configuration can hold."""
    told = []
    for member in members:
        with suppress(Untold):
            told.append(evaluate(module, member, depth + 1))
    if not told:
        raise Untold
    return typing.Union[tuple(told)]  # noqa: UP007 - members are only known now


def _known(key: ast.expr | None) -> ast.expr:
    if key is None:  # {**other}
        raise Untold
    return key


def _number(value: Any) -> Any:
    if not isinstance(value, (int, float)):
        raise Untold
    return value


def _subscribed(kind: Any, index: Any) -> Any:
    try:
        return kind[index]
    except TypeError:
        raise Untold from None


def _marked(made: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """Only our own markers are called."""
    if made not in _MARKERS.values() or not isinstance(made, type):
        raise Untold
    return made(*arguments, **keywords)


def _named(module: Module, name: str, depth: int) -> Any:
    """A name's value: of the module itself, of what it imports, or a plain type."""
    found = module.find(name)
    match found:
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            return evaluate(module, value, depth + 1)
        case ast.ImportFrom():
            origin = _imported_from(module, found, name)
            if origin is not None and (other := find_module(origin[0])) is not None:
                if origin[0] not in ("typing", "collections.abc", "attnseg.component"):
                    return _named(other, origin[1], depth + 1)
                name = origin[1]
        case None:
            pass
        case _:
            raise Untold
    if name in _TYPES:
        return _TYPES[name]
    raise Untold


def _imported_from(module: Module, found: ast.ImportFrom, name: str) -> tuple[str, str] | None:
    for alias in found.names:
        if (alias.asname or alias.name) == name:
            base = found.module or ""
            if found.level:
                parts = module.name.split(".")
                is_package = module.path.name == "__init__.py"
                keep = len(parts) - found.level + (1 if is_package else 0)
                base = ".".join([*parts[:keep], *([base] if base else [])])
            return base, alias.name
    return None


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a top-level statement defines."""
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return [alias.asname or alias.name for alias in names]
    return []


def loaded(target: str) -> Callable[..., Any] | None:
    """The class, if its module is imported already."""
    module_name, _, name = target.rpartition(".")
    module = sys.modules.get(module_name)
    return getattr(module, name, None) if module is not None else None
