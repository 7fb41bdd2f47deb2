"""The keys of a configuration as `--help KEY` lists them: type, default and one line each.

A section's line stands behind its field in the source, as a comment; a component's in its `Doc`.
"""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le, Len, Lt, MinLen, MultipleOf
from pydantic import PlainValidator
from pydantic_core import PydanticUndefined

from attnseg.component import KINDS
from attnseg.config.base import Section
from attnseg.config.component import keys_beside, registry
from attnseg.config.signatures import REQUIRED, UNTOLD, read_signature


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        path: dotted.
        kind: its type and range, in words.
        default: as one writes it; empty where the key is needed.
        text: what it means; may be empty.
    """

    path: str
    kind: str
    default: str
    text: str


def describe(schema: type[Section], path: Sequence[str]) -> list[Key]:
    """The keys at and below a dotted key of a command's schema; none where there is no such key."""
    return list(dict.fromkeys(_below(schema, list(path), ())))


def _below(schema: type[Section], path: list[str], above: tuple[str, ...]) -> Iterator[Key]:
    if not path:
        for name in schema.model_fields:
            yield from _field(schema, name, (*above, name), [])
        for name, text in schema.further_keys().items():
            yield Key(".".join((*above, name)), "", "", text)
        return
    if path[0] in schema.model_fields:
        yield from _field(schema, path[0], (*above, path[0]), path[1:])


def _field(
    schema: type[Section], name: str, place: tuple[str, ...], rest: list[str]
) -> Iterator[Key]:
    field = schema.model_fields[name]
    kind, named = _kind((field.annotation, *field.metadata))
    if kind is not None:
        at = (*place, "<name>") if named else place
        if not rest and not registry(kind):  # all are of one's own
            text = _comments(schema).get(name, "")
            yield Key(".".join(at), kind.replace("_", " "), "", text)
        yield from _components(kind, at, rest[1:] if named else rest)
        return
    sections, named = _sections(field.annotation)
    if not any(section.model_fields for section in sections):  # or anybody's class
        if not rest:
            yield Key(
                ".".join(place),
                words_for(_annotated(field)),
                _written(_default(field)),
                _comments(schema).get(name, ""),
            )
        return
    inner = (*place, "<name>") if named else place
    for section in sections:
        yield from _below(section, rest[1:] if named else rest, inner)


def _components(kind: str, place: tuple[str, ...], rest: list[str]) -> Iterator[Key]:
    for name, target in registry(kind).items():
        signature = read_signature(target, KINDS[kind].provided)
        assert signature is not None, target
        key = KINDS[kind].name_key
        own = {None: "", "name": f"={name}"}.get(key, f".{key}={name}")
        if not rest:
            yield Key(
                f"{'.'.join(place)}{own}",
                kind.replace("_", " "),
                "",
                " ".join(signature.doc.split()),
            )
        for option_name, option in signature.options.items():
            if rest and option_name != rest[0]:
                continue
            where = f"{'.'.join(place)}.{option_name}"
            if option.slot is not None:
                default = "" if option.default is None else str(KINDS[option.slot].default or "")
                yield Key(where, option.slot.replace("_", " "), default, option.doc)
                continue
            told = option.default not in (REQUIRED, UNTOLD)
            default = _written(option.default) if told else ""
            yield Key(where, words_for(option.annotation), default, option.doc)
    schema, names = keys_beside(kind)
    for name in names:
        if not rest or rest[0] == name:
            yield from _field(schema, name, (*place, name), rest[1:])


def _kind(found: Any) -> tuple[str | None, bool]:
    """The kind of component that a field holds, and whether names of the user's stand between."""
    parts = found if isinstance(found, tuple) else typing.get_args(found)
    for part in parts:
        validator = getattr(part, "func", None) if isinstance(part, PlainValidator) else None
        if isinstance(validator, partial) and validator.args and validator.args[0] in KINDS:
            return str(validator.args[0]), False
    for part in parts:
        kind, named = _kind(part) if typing.get_args(part) else (None, False)
        if kind is not None:
            origin: Any = typing.get_origin(part)
            return kind, named or origin in (dict, Mapping)
    return None, False


def _sections(annotation: Any) -> tuple[list[type[Section]], bool]:
    """The sections that a field may hold, and whether names of the user's stand between."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation], False
    named = typing.get_origin(annotation) in (dict, Mapping)
    found: list[type[Section]] = []
    for argument in typing.get_args(annotation):
        inner, deeper = _sections(argument)
        found += inner
        named = named or deeper
    return found, named and bool(found)


def _annotated(field: Any) -> Any:
    marks = tuple(field.metadata)
    return typing.Annotated[(field.annotation, *marks)] if marks else field.annotation


def _default(field: Any) -> Any:
    if field.default_factory is not None:
        return field.default_factory()
    return REQUIRED if field.default is PydanticUndefined else field.default


def _written(value: Any) -> str:
    """A default as one writes it on a command line."""
    if value is REQUIRED:
        return ""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(inner)}" for key, inner in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


_NAMES = {int: "int", float: "number", str: "text", bool: "true | false", Any: "any"}


def words_for(annotation: Any) -> str:
    """A type in words: `int >= 1`, `cosine | linear`, `list of int`, `text or null`."""
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return " ".join([words_for(arguments[0]), *_limits(arguments[1:])])
    if origin is typing.Literal:
        return " | ".join(map(_written, arguments))
    if origin in (typing.Union, types.UnionType):
        members = [words_for(each) for each in arguments if each is not type(None)]
        members += ["null"] if type(None) in arguments else []
        return " or ".join(dict.fromkeys(member for one in members for member in one.split(" or ")))
    if origin in (list, tuple, set) or str(origin).endswith("Sequence'>"):
        inner = list(dict.fromkeys(words_for(each) for each in arguments if each is not ...))
        count = f"{len(arguments)} x " if origin is tuple and ... not in arguments else "list of "
        return f"{count}{' or '.join(inner) or 'any'}"
    if origin in (dict, Mapping) or annotation is dict:
        return "mapping"
    return getattr(annotation, "__name__", "any")


def _limits(marks: Sequence[Any]) -> Iterator[str]:
    for mark in marks:
        match mark:
            case Ge(ge=limit):
                yield f">= {_written(limit)}"
            case Gt(gt=limit):
                yield f"> {_written(limit)}"
            case Le(le=limit):
                yield f"<= {_written(limit)}"
            case Lt(lt=limit):
                yield f"< {_written(limit)}"
            case MultipleOf(multiple_of=unit):
                yield f"a multiple of {unit}"
            case MinLen(min_length=least) | Len(min_length=least):
                yield f"of at least {least}"
            case _ if hasattr(mark, "metadata"):
                yield from _limits(mark.metadata)


@lru_cache(maxsize=128)
def _comments(schema: type[Section]) -> dict[str, str]:
    """What stands behind each field of a section (and of those it derives from) in the source."""
    found: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if not issubclass(base, Section) or base is Section:
            continue
        source = Path(inspect.getfile(base)).read_text()
        behind = {
            token.start[0]: token.string.lstrip("# ")
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT and "noqa" not in token.string
        }
        for node in ast.walk(ast.parse(source)):
            if not (isinstance(node, ast.ClassDef) and node.name == base.__name__):
                continue
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    lines = range(field.lineno, (field.end_lineno or field.lineno) + 1)
                    text = next((behind[n] for n in lines if n in behind), "")
                    found[field.target.id] = text or found.get(field.target.id, "")
    return found
