"""Importing MONAI without what it brings along."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_mlflow() -> Iterator[None]:
    """Let an import of MONAI go without MLflow, as where it is not installed.

    MONAI imports all of itself whatever is asked of it, and for a handler that nothing here uses
    MLflow with it: 0.7 s and 1,500 modules. It takes an optional package for missing when its
    place in `sys.modules` is None. MLflow stays as importable as it was for everybody else; a
    process that has it already keeps it.
    """
    if "mlflow" in sys.modules:
        yield
        return
    sys.modules["mlflow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["mlflow"]
