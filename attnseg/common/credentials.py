"""Passwords, tokens and keys: taken out of whatever is written down or shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"

_URL = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"<>`]+)")
_NAMED = (  # in `name=value`, anywhere; the short ones in a URL's query alone
    r"[\w.-]*(?:passw(?:or)?d|passphrase|secret|(?:api|access|private|account)[_-]?key"
    r"|credentials?|signature|odbc_connect|token)"
)
_PAIR = re.compile(
    rf"(?<![\w.-])({_NAMED}|(?<=[?&;])(?:pass|pwd|sig|key|auth))=('[^']*'|\"[^\"]*\"|[^\s&;,'\")\]}}]+)",
    re.IGNORECASE,
)
_KEY = re.compile(_NAMED, re.IGNORECASE)
_VARIABLE = re.compile(
    r"(^|_)(API_?KEY|ACCESS_KEY|SECRET|SECRET_KEY|PRIVATE_KEY|TOKEN|PASSWORD|PASSWD|PASSPHRASE)$"
)
_LOOKED_UP = re.compile(r"\$(\w+|\{.*\})")  # names a secret, and is none
_SHORTEST = 6  # of a secret that is looked for by itself: shorter ones are parts of words
_met: set[str] = set()


def redacted(text: str) -> str:
    """The text without the user info and secret parameters of its URLs; the same text always.

    `postgresql://u:p@host/db` keeps the user's name; `https://TOKEN@host` has none to keep.
    """
    return _PAIR.sub(_pair, _URL.sub(_url, text)) if "://" in text or "=" in text else text


def redacted_tree(tree: Any) -> Any:
    """The same of every text in plain containers."""
    return _concealed(tree, [])


def concealed(value: Any) -> Any:
    """A text, or a tree of texts, as it may be written down.

    Beside what `redacted` sees, secrets go that this process has met in a URL or has in an
    environment variable named like one (WANDB_API_KEY, say).
    """
    return _concealed(value, _secrets())


def _concealed(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        value = redacted(value)
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, Mapping):
        return {
            _concealed(k, secrets): HIDDEN if is_secret(k, v) else _concealed(v, secrets)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_concealed(each, secrets) for each in value]
    return value


def is_secret(key: object, value: object) -> bool:
    """Whether a key is called like a secret (`api_key`, `password`) and holds one."""
    named = isinstance(key, str) and _KEY.fullmatch(key) is not None
    text = isinstance(value, str) and value not in ("", HIDDEN) and not _LOOKED_UP.fullmatch(value)
    return named and text


def _secrets() -> list[str]:
    """The longest first, so that none leaves a rest of another."""
    named = {value for name, value in os.environ.items() if _VARIABLE.search(name.upper())}
    return sorted((s for s in named | _met if len(s) >= _SHORTEST), key=len, reverse=True)


def _url(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    _, colon, port = authority.partition(":")
    if "@" in authority:
        head, mark, tail = rest.partition("?")
        if "@" not in head:  # the password holds the question mark
            head, mark, tail = rest, "", ""
    elif "@" in rest and colon and not port.isdigit():  # a password with a slash or the like in it
        head, mark, tail = rest, "", ""
    else:
        return match[0]
    info, _, host = head.rpartition("@")
    user, colon, password = info.partition(":")
    if _LOOKED_UP.fullmatch(password) or (not colon and _LOOKED_UP.fullmatch(user)):
        return match[0]
    _meet(password if colon else user)
    if not password or password == "x-oauth-basic":  # then the name is the token
        _meet(user)
        return f"{scheme}{HIDDEN}@{host}{mark}{tail}"
    return f"{scheme}{user}:{HIDDEN}@{host}{mark}{tail}"


def _pair(match: re.Match[str]) -> str:
    name, value = match.groups()
    if _LOOKED_UP.fullmatch(value) or value == HIDDEN:
        return match[0]
    _meet(value.strip("'\""))
    return f"{name}={HIDDEN}"


def _meet(secret: str) -> None:
    """Drivers quote a password alone, decoded."""
    if secret != HIDDEN:
        _met.update({secret, unquote(secret)})
