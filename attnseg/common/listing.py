"""What is told: long lists made short, and names of files that are no text made readable."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

_ALIKE = 10  # so many lines of a kind are all shown
_NAMED = 5
_KINDS = 40
_SPECIFIC = re.compile(r"'[^']*'|\"[^\"]*\"|\([^)]*\)|\S*[/\\\d]\S*")


def readable(text: object) -> str:
    r"""As text that can be printed and written: bytes of a file name that are no UTF-8 as \\xe9."""
    name = str(text)
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name


def shortened(lines: Sequence[str]) -> list[str]:
    """The lines, in order of their kinds' first; of many of a kind a few and a count.

    Lines are of a kind if they are the same but for what names a file, a case or a number.
    """
    kinds: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        kinds[_kind(line)].append(line)
    short: list[str] = []
    shown = 0
    for members in list(kinds.values())[:_KINDS]:
        if len(members) <= _ALIKE:
            short += members
            shown += len(members)
        else:
            short += members[:_NAMED]
            short.append(f"... and {len(members) - _NAMED:,} more like these")
            shown += len(members)
    if shown < len(lines):
        short.append(f"... and {len(lines) - shown:,} others")
    return short


def _kind(line: str) -> str:
    """The line without names and numbers: what stands before the first colon is a place."""
    level, found, rest = line.partition(": ")
    if level in ("error", "warning"):
        return f"{level}: {_kind(rest)}"
    words = _SPECIFIC.sub("#", rest if found else line)
    return re.sub(r"(case|patient|cases|patients) [^,;:]*(, [^,;:]*)*", r"\1 #", words)
