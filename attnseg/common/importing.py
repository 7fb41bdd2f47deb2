"""Importing the class that a dotted name leads to, and saying where what it runs has failed."""

from __future__ import annotations

import difflib
import importlib
import traceback
from collections.abc import Callable
from typing import Any

from attnseg.common.errors import ConfigError
from attnseg.common.hidden import without_mlflow


def find_class(target: str) -> Callable[..., Any]:
    """Import the class or function of that dotted name.

    Raises:
        ConfigError: there is nothing importable, or nothing that can be called.
    """
    module_name, _, name = target.rpartition(".")
    try:
        with without_mlflow():
            module = importlib.import_module(module_name)
    except Exception as error:  # an import runs whatever the module does
        raise ConfigError(f"{target} cannot be imported: {place_of(error)}") from error
    found = getattr(module, name, None)
    if not callable(found):
        close = difflib.get_close_matches(name, dir(module), n=1)
        hint = f"; did you mean {module_name}.{close[0]}?" if close else ""
        raise ConfigError(f"{module_name} has no {name!r} that can be called{hint}")
    made: Callable[..., Any] = found
    return made


def place_of(error: Exception, file: str | None = None) -> str:
    """What went wrong, with file and line.

    Args:
        error: as it was caught.
        file: whose part failed: the last line of it is named, not one of what it calls.
    """
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} at {error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "<frozen" not in f.filename]
    last = ([frame for frame in frames if frame.filename == file] or frames)[-1]
    return f"{type(error).__name__}: {error} at {last.filename}:{last.lineno}"
