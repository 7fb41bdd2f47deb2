"""What the readers of image files share: fingerprints, names, and gathering a case's problems."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from attnseg.common.errors import DataError
from attnseg.data.detached import data_files
from attnseg.imaging.case import Case, Spacing

Value = TypeVar("Value")


def fingerprint_files(*parts: Path | str | None) -> str:
    """A key of files and options, for the decoded cache.

    A file is told by path, size, times of change and inode: size and the time that `touch` can
    set stay the same where a file is overwritten and its time put back. The file system is asked
    once a file; where its folder really lies, once a folder.
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
    state = f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"
    return "|".join([f"{place}:{state}", *map(_file_key, data_files(path, found.st_size))])


def named_files(case: Case, root: Path) -> dict[str, Path]:
    """A case's files by their names within the data set; the X-ray's first, then DRR's and mask's.

    A file elsewhere than below `root` gets a name of its case, so that no name tells a place.
    """
    named = {}
    for role, path in (("xray", case.xray), ("drr", case.drr), ("mask", case.mask)):
        if path is not None:
            text = str(path)
            place = next((place for place in _places(root) if text.startswith(place)), None)
            if place is None and (path.is_absolute() or str(root) != "."):
                text = f"{case.case_id}/{role}/{path.name}"
            named[text.removeprefix(place or "")] = path
    return named


def _places(root: Path) -> tuple[str, str]:
    """What the path of a file below `root` can begin with."""
    return f"{str(root).rstrip(os.sep)}{os.sep}", f"{str(root.absolute()).rstrip(os.sep)}{os.sep}"


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
