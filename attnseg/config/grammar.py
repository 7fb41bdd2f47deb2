"""Text in Hydra's grammar: quoting it, and taking what a user types for what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Flag, auto
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

from attnseg.component import KINDS
from attnseg.config.base import Section
from attnseg.config.component import kind_of, registry
from attnseg.config.signatures import read_signature


class Takes(Flag):
    """What a key takes beside null: one text, a list of texts, or either."""

    TEXT = auto()
    LIST = auto()


NOT_SWEPT = ("run.", "launcher", "sweep", "hydra", "resume", "fork", "warmstart")
"""How the keys begin that have one value for all runs of a sweep."""

_NONE = Takes(0)
_CONTAINERS = (list, dict, tuple, Sequence)
_PLAIN = re.compile(r"[\w./+-]+", re.ASCII)  # never more than a word to the grammar
_WORD = re.compile(r"(\+\+|\+|~)?[A-Za-z_]\w*(\.[\w-]+)*=")
_INTERPOLATION = re.compile(r"\$\{[^}]+\}")


def quoted(text: str) -> str:
    """A text, whatever is in it, as a string of Hydra's grammar that means nothing else."""
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # else OmegaConf would look it up
    return _in_quotes(text)


def _in_quotes(text: str) -> str:
    # Backslashes count there only before a quote, the closing one too.
    return "'" + re.sub(r"(\\*)('|$)", _escaped, text, flags=re.ASCII) + "'"


def _escaped(match: re.Match[str]) -> str:
    if match[2]:
        return match[1] * 2 + "\\'"
    return match[1] * 2 if match.end() == len(match.string) else match[0]


def literal(value: Any) -> str:
    """A plain value (text, number, truth, null, or a list of such) in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(literal, value))}]"
    return quoted(value) if isinstance(value, str) else str(value)


def assignment(key: str, value: Any) -> str:
    """The word `key=value` that sets a key to a plain value."""
    return f"{key}={literal(value)}"


def words_and_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is a path or a name, and what is `key=value`; a path that is there may hold `=`."""
    words = [a for a in arguments if _exists(a) or not (_WORD.match(a) or a.startswith("~"))]
    return words, [argument for argument in arguments if argument not in words]


def natural(words: Sequence[str], schema: type[Section], *, sweep: bool = False) -> list[str]:
    """Words of a command line, with what Hydra's grammar would misread in quotes.

    A key that takes text takes it as it is: `run.dir=runs/lr=1 (b)` needs no quotes but the
    shell's. Hydra's own are understood, and so are null, `[a,b]` where a list is taken, and
    `${oc.env:X}`. A path that is there is meant by its name, whatever that looks like; in a list
    its commas are its own. The value of any other key is quoted where the grammar has no
    reading of it, so that the schema can say what is wrong with it.

    Args:
        words: as typed; what is no `key=value` is left alone.
        schema: of the command.
        sweep: whether commas part choices, and choice(...), range(...) and the like are meant.
    """
    keys = text_keys(schema)
    return [_natural(word, keys, sweep) for word in words]


@cache
def text_keys(schema: type[Section]) -> Mapping[str, Takes]:
    """The dotted keys that take text and nothing else but null and lists of it."""
    found: dict[str, Takes] = {}
    for key, takes in _text_keys(schema, ""):
        found[key] = found.get(key, _NONE) | takes
    return found


def _text_keys(schema: type[Section], prefix: str) -> Iterator[tuple[str, Takes]]:
    for name, field in schema.model_fields.items():
        kind = kind_of(field)
        if kind is not None:
            yield from ((f"{prefix}{name}.{key}", takes) for key, takes in _text_options(kind))
        sections = [part for part in _parts(field.annotation) if _is_section(part)]
        for section in sections:
            yield from _text_keys(section, f"{prefix}{name}.")
        takes = _takes(field.annotation)
        if takes and not sections:
            yield f"{prefix}{name}", takes


def _text_options(kind: str) -> Iterator[tuple[str, Takes]]:
    """The options of our components of a kind that take text, of those inside of them, too."""
    for target in registry(kind).values():
        signature = read_signature(target, KINDS[kind].provided)
        for name, option in signature.options.items() if signature else ():
            if option.slot is not None:
                yield from ((f"{name}.{key}", takes) for key, takes in _text_options(option.slot))
            elif takes := _takes(option.annotation):
                yield name, takes


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _parts(annotation: Any) -> list[Any]:
    """The alternatives of a type, without Annotated's additions and null."""
    if hasattr(annotation, "__metadata__"):
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in _CONTAINERS or not hasattr(annotation, "__args__"):
        return [] if annotation in (None, type(None)) else [annotation]
    return [part for each in get_args(annotation) for part in _parts(each)]


def _takes(annotation: Any) -> Takes:
    takes = _NONE
    for part in _parts(annotation):
        if part is str:
            takes |= Takes.TEXT
        elif get_origin(part) in (list, Sequence) and _parts(get_args(part)[0]) == [str]:
            takes |= Takes.LIST
        else:
            return _NONE
    return takes


def _natural(word: str, keys: Mapping[str, Takes], sweep: bool) -> str:
    if not (found := _WORD.match(word)) or word.startswith("~"):
        return word
    head, value = word[: found.end()], word[found.end() :]
    takes = keys.get(head.lstrip("+").removesuffix("="), _NONE)
    if not value or (_PLAIN.fullmatch(value) and not takes):
        return word
    if takes:
        one = "/" in value and head.lstrip("+").startswith(NOT_SWEPT)  # its commas are its own
        return head + _text(value, takes, sweep and not one)
    if "/" in value and _exists(value):
        return head + quoted(value)
    structured = value[0] in "[{"  # then Hydra says what is wrong with it
    return word if structured or _reading(value) is not None else head + _in_quotes(value)


def _text(value: str, takes: Takes, sweep: bool) -> str:
    """A text key's value in the grammar."""
    if _exists(value):
        return quoted(value)
    if value.lower() == "null" or _is_quoted(value):
        return value
    if takes & Takes.LIST and value.startswith("[") and value.endswith("]"):
        return f"[{','.join(map(_item, _listed(value[1:-1])))}]"
    if sweep:
        reading = _reading(value) if set("([") & set(value) else None
        if reading is not None and reading.is_sweep_override():
            return value  # choice(...), glob(...), lists
        if len(items := _listed(value)) > 1:
            return ",".join(_text(item, takes, sweep=False) for item in items)
    return _item(value)


def _item(text: str) -> str:
    """One text of a list: as it is, or as a user has quoted it; interpolations are followed."""
    if not text or (_is_quoted(text) and not _exists(text)):
        return text
    if _INTERPOLATION.search(text) and not _exists(text):
        return text if _INTERPOLATION.fullmatch(text) else _in_quotes(text)
    return quoted(text)


def _is_quoted(text: str) -> bool:
    """Whether the grammar reads it as one string in quotes."""
    if text[:1] not in ("'", '"') or text[-1:] != text[:1] or len(text) < 2:
        return False
    from hydra.core.override_parser.types import QuotedString

    reading = _reading(text)
    return reading is not None and isinstance(reading._value, QuotedString)


def _reading(value: str) -> Any:
    """Hydra's reading of a value; None where it has none."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return None


def _listed(text: str) -> list[str]:
    return [item.strip() for item in _joined(_split(text))]


def _split(text: str) -> list[str]:
    """At commas outside of quotes, brackets and interpolations."""
    items, depth, quote = [""], 0, ""
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote and text[index - 1] != "\\" else quote
        elif char in "'\"" and not items[-1].strip():
            quote = char
        elif char == ",":
            if depth == 0:
                items.append("")
                continue
        elif char == "{" and text[index - 1 : index] == "$":
            depth += 1
        elif char == "}" and depth:
            depth -= 1
        items[-1] += char
    return items if any(item.strip() for item in items) else []


def _joined(items: Sequence[str]) -> list[str]:
    """The items, neighbours put together again where they are one path that is there."""
    joined, start = [], 0
    while start < len(items):
        ends = range(len(items), start + 1, -1)
        end = next((e for e in ends if _exists(",".join(items[start:e]).strip())), start + 1)
        joined.append(",".join(items[start:end]))
        start = end
    return joined


def _exists(text: str) -> bool:
    """Whether it is the path of something; not asked of a lone word, which names a thing."""
    if len(text) > 4000 or "\0" in text:
        return False
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):
        return False
