"""Names that look the same and are not: by case, leading zeros, invisible characters, Unicode form.

`PAT1` and `pat1`, `01` and `1`, or two words of which one holds a zero-width space, are one
patient to whoever typed them, and two to a program.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

# Drawn as nothing, though Unicode's categories do not say so.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_UNSEEN = ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")
_DASHES = re.compile(r"[-_]+")
# Between a letter and a digit, or at an end, a separator tells nothing: PAT-1 is PAT1.
_LOOSE = re.compile(r"(?<=[^\W\d_])-(?=\d)|(?<=\d)-(?=[^\W\d_])|^-|-$")
# The zeros of 1.05 are no leading ones.
_ZEROS = re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)")


def canonical(name: str) -> str:
    """The same for names that differ by case, white space, leading zeros and the like alone."""
    if not name.isascii():
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        name = "".join(_plain(letter) for letter in folded if not _is_unseen(letter))
    name = "".join(letter for letter in name.lower() if letter > " " and letter != "\x7f")
    return _ZEROS.sub("", _LOOSE.sub("", _DASHES.sub("-", name)))


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of different names with one canonical form, each sorted, in order of their first."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[canonical(name)].add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def shown(name: str) -> str:
    """A name in quotes, with escapes for what one does not see or could take for something else."""
    text = "".join(
        letter if _is_clear(letter) else letter.encode("unicode_escape").decode() for letter in name
    )
    return f"'{text}'"


def _plain(letter: str) -> str:
    """Digits of any script as 0 to 9, dashes of any length as one."""
    if letter.isdecimal():
        return str(unicodedata.decimal(letter))
    return "-" if unicodedata.category(letter) == "Pd" or letter == "\u2212" else letter


def _is_unseen(letter: str) -> bool:
    selector = "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef"
    mongolian = "\u180b" <= letter <= "\u180d"
    unseen = unicodedata.category(letter) in _UNSEEN
    return unseen or selector or mongolian or letter in _BLANK


def _is_clear(letter: str) -> bool:
    if letter.isascii():
        return letter.isprintable()
    marks = unicodedata.category(letter)[0] in "MCZ"
    same = unicodedata.normalize("NFKC", letter) == letter
    return same and not marks and not _is_unseen(letter)
