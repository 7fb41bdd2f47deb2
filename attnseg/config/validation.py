"""A composed configuration against its schema: every mistake at once, in the user's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from attnseg.common.errors import ConfigError
from attnseg.config.base import Section
from attnseg.config.component import ComponentError, having, importing
from attnseg.config.environment import Composed, value_at, with_value

SectionT = TypeVar("SectionT", bound=Section)


def validate(
    config: Mapping[str, Any], schema: type[SectionT], *, imports: bool = False
) -> SectionT:
    """Check a composed config (plain containers) against its schema.

    Args:
        config: as it was composed or read.
        schema: of the command.
        imports: whether a class that it names may be imported where its source text does not tell
            its arguments. Only what the person at the keyboard names may.

    Raises:
        ConfigError: lists every wrong key and value at once, each with its dotted path and,
            for a mistyped key, the nearest right one.
    """
    try:
        with importing(imports):
            section = schema.model_validate(dict(config))
    except ValidationError as error:
        if (less := _without_interpolations(error, config)) is not config:
            known = config.interpolations if isinstance(config, Composed) else {}
            return validate(Composed(less, known), schema, imports=imports)
        items = [dict(item) for item in error.errors()]
        raise _wrong([line for item in items for line in _lines(item, config, schema)]) from None
    if lines := list(_truths_as_numbers(config, section.model_dump(), ())):
        raise _wrong(lines)
    if isinstance(config, Composed) and config.interpolations:
        plain = section.model_dump(mode="json")
        section._interpolations = {
            place: (text, value_at(plain, place)) for place, text in config.interpolations.items()
        }
    return section


def _without_interpolations(error: ValidationError, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recorded configuration without the values that it does not know, where those are no text.

    A record keeps `data.num_workers: ${oc.env:WORKERS}`, which is no number; the default is one.
    """
    for path, given in _wrong_values(error.errors(), config):
        if isinstance(given, str) and "${oc." in given:
            inner = value_at(config, tuple(path[:-1]))
            if isinstance(inner, Mapping):
                kept = {key: value for key, value in inner.items() if key != path[-1]}
                config = with_value(config, tuple(path[:-1]), kept)
    return config


def _wrong_values(
    errors: Sequence[Any], config: Mapping[str, Any], above: Sequence[str] = ()
) -> Iterator[tuple[list[str], Any]]:
    """Where something is wrong, inside of components, too, and what was given there."""
    for item in errors:
        path = [*above, *_user_path(item["loc"], config, missing=False)]
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, ComponentError):
            yield from _wrong_values(cause.errors, cause.config, path)
        else:
            yield path, item["input"]


def _wrong(lines: list[str]) -> ConfigError:
    return ConfigError("\n".join(["the configuration is wrong:", *(f"  - {x}" for x in lines)]))


def _truths_as_numbers(given: Any, read: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Pydantic reads true as 1, so that `deep_supervision=true` would be one level."""
    if isinstance(given, Mapping) and isinstance(read, Mapping):
        for key, value in given.items():
            yield from _truths_as_numbers(value, read.get(key), (*path, str(key)))
    elif isinstance(given, Sequence) and isinstance(read, Sequence) and not isinstance(given, str):
        for index, (one, other) in enumerate(zip(given, read, strict=False)):
            yield from _truths_as_numbers(one, other, (*path, str(index)))
    elif isinstance(given, bool) and not isinstance(read, bool) and isinstance(read, (int, float)):
        yield f"{'.'.join(path)}: must be a number (got {str(given).lower()})"


def _lines(
    error: dict[str, Any],
    config: Mapping[str, Any],
    schema: type[Section],
    above: Sequence[str] = (),
) -> Iterator[str]:
    """One error as a line; one of a component as a line for each thing wrong in it."""
    cause = error.get("ctx", {}).get("error")
    if not isinstance(cause, ComponentError):
        yield _explain(error, config, schema, above)
        return
    at = [*above, *_user_path(error["loc"], config, missing=False)]
    for item in cause.errors:
        key = ".".join(str(part) for part in item["loc"])
        others = having(cause.kind, key) if item["type"] == "extra_forbidden" else []
        if others:
            path = ".".join(at)
            yield (
                f"{path}.{key}: no such key with {path}={cause.name} "
                f"({', '.join(others)} {'have' if len(others) > 1 else 'has'} it)"
            )
            continue
        yield from _lines(item, cause.config, cause.schema, at)


_ONE_CLASS = (
    "one class is segmented, lesion or not; several are not supported (train a run for each, on "
    "its own masks)"
)
_ONE_CHANNEL = "an X-ray and a DRR go in, one grey channel each; more channels are not supported"
_SQUARE = (
    "one number is needed, the side of a square in px; rectangular training sizes are not "
    "supported (images of any shape are scaled to fit and padded, and predict takes any)"
)
_BEYOND = {
    **dict.fromkeys(("out_channels", "n_classes", "num_classes", "classes"), _ONE_CLASS),
    **dict.fromkeys(("in_channels", "n_channels", "num_channels"), _ONE_CHANNEL),
}
"""Keys of what other frameworks have, and why this one has not."""


def _explain(
    error: dict[str, Any],
    config: Mapping[str, Any],
    schema: type[Section],
    above: Sequence[str] = (),
) -> str:
    """One pydantic error as one line in the user's words.

    Args:
        error: of pydantic.
        config: what was given.
        schema: what was wanted.
        above: where in the whole configuration that is.
    """
    kind = error["type"]
    path = _user_path(error["loc"], config, missing=kind == "missing")
    dotted = ".".join([*above, *path])
    if kind == "extra_forbidden":
        if path[-1] in _BEYOND:
            return f"{dotted}: {_BEYOND[path[-1]]}"
        known = _known_keys(path[:-1], schema)
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"; did you mean '{'.'.join([*above, *path[:-1], close[0]])}'?" if close else ""
        if path[-1] in known:  # a key of another option of the group
            hint = _beside(path[:-1], config)
        hint = hint or (f"; known keys here: {', '.join(sorted(known))}" if known else "")
        return f"{dotted}: no such key{hint}"
    if kind == "missing":
        return f"{dotted}: needed, and not set"
    if dotted in ("data.size", "data.patch.size") and isinstance(error.get("input"), list):
        return f"{dotted}: {_SQUARE}"
    message = str(error["msg"]).removeprefix("Value error, ")
    if isinstance(error.get("input"), (str, int, float, bool)) or error.get("input") is None:
        message += f" (got {error.get('input')!r})"
    message = f"{message[0].lower()}{message[1:]}"
    return f"{dotted}: {message}" if dotted else message


def _user_path(
    loc: tuple[str | int, ...], config: Mapping[str, Any], *, missing: bool
) -> list[str]:
    """Drop what pydantic adds for unions, so that the path is the one the user typed."""
    path: list[str] = []
    node: Any = config
    for index, part in enumerate(loc):
        inside = isinstance(node, Mapping) and part in node
        if isinstance(node, (list, tuple)) and isinstance(part, int):
            inside = part < len(node)
        if not inside and not (missing and index == len(loc) - 1):
            continue
        path.append(str(part))
        if inside:
            node = node[part]
    return path


def _beside(path: list[str], config: Mapping[str, Any]) -> str:
    """With which option of its group a key does not exist: ` with data=phantom`."""
    node: Any = config
    for part in path:
        node = node[part]
    name = node.get("name") if isinstance(node, Mapping) else None
    return f" with {'.'.join(path)}={name}" if path and name else " here"


def _known_keys(path: list[str], schema: type[Section]) -> list[str]:
    """The keys that every section reachable at `path` of the command knows."""
    sections = _sections_at(schema, path)
    return sorted({key for s in sections for key in (*s.model_fields, *s.further_keys())})


def _sections_at(section: type[Section], path: list[str]) -> list[type[Section]]:
    if not path:
        return [section]
    field = section.model_fields.get(path[0])
    if field is None:
        return []
    found: list[type[Section]] = []
    inner, is_dict = _sections_in(field.annotation)
    rest = path[2:] if is_dict else path[1:]
    for candidate in inner:
        found += _sections_at(candidate, rest)
    return found


def _sections_in(annotation: Any) -> tuple[list[type[Section]], bool]:
    """The Section types inside an annotation, and whether a mapping holds them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation], False
    sections: list[type[Section]] = []
    is_dict = getattr(annotation, "__origin__", None) is dict
    for argument in getattr(annotation, "__args__", ()):
        inner, nested = _sections_in(argument)
        sections += inner
        is_dict = is_dict or nested
    return sections, is_dict
