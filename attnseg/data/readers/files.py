"""What the readers of image files share: fingerprints, and gathering problems of a case."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from attnseg.data.case import Spacing
from attnseg.errors import DataError

Value = TypeVar("Value")


def fingerprint_files(*parts: Path | str | None) -> str:
    """A key of files (by path, size and time of change) and options, for the decoded cache.

    The file system is asked once a file; where its folder really lies, once a folder.
    """
    words = []
    for part in parts:
        if isinstance(part, Path):
            try:
                words.append(_file_key(part))
            except OSError:
                words.append(f"{part}:missing")
        else:
            words.append(str(part))
    return "|".join(words)


def _file_key(path: Path) -> str:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        place, found = str(path.resolve()), path.stat()
    else:
        place = f"{_real_folder(path.absolute().parent)}{os.sep}{path.name}"
    return f"{place}:{found.st_size}:{found.st_mtime_ns}"


@lru_cache(maxsize=4096)
def _real_folder(folder: Path) -> Path:
    return folder.resolve()


def attempt(problems: list[str], function: Callable[[], Value]) -> Value | None:
    """The function's value; if it raises DataError, None, and what is wrong joins `problems`."""
    try:
        return function()
    except DataError as error:
        problems += error.problems or [error.headline]
        return None


def parse_spacing(text: str) -> Spacing:
    """mm per pixel from '0.7' or '0.7x0.8' (row x column).

    Raises:
        ValueError: not one or two numbers above 0.
    """
    numbers = [float(word) for word in text.lower().replace("\u00d7", "x").split("x")]
    if len(numbers) not in (1, 2) or not all(0 < number < 100 for number in numbers):
        raise ValueError(text)
    return numbers[0], numbers[-1]
