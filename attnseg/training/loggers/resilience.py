"""A logger's troubles are its own: one warning, and the training goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only


def on_rank_zero() -> bool:
    """Whether this process is the one that logs; Lightning has settled it by now."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


class NeverStops:
    """Mixin before one of Lightning's loggers: what it raises is caught.

    After its first failure a logger is left alone; the ledger has everything it would have got.
    """

    title = "logger"
    remedy = "the ledger has everything"
    failed = False

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Run a block, and turn what it raises into the one warning."""
        try:
            yield
        except Exception as error:  # a full disk, a server that is gone, anything of theirs
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Warn, once, and be silent from now on."""
        if not self.failed:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            print(
                f"warning: {self.title}: {reason}; training goes on without it; {self.remedy}",
                file=sys.stderr,
                flush=True,
            )
        self.failed = True

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log, if it still works."""
        if not self.failed:
            with self.guarded():
                super().log_metrics(metrics, step)  # type: ignore[misc]

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log, if it still works."""
        if not self.failed:
            with self.guarded():
                super().log_hyperparams(*args, **kwargs)  # type: ignore[misc]

    def save(self) -> None:
        """Flush, if it still works."""
        if not self.failed:
            with self.guarded():
                super().save()  # type: ignore[misc]

    def finalize(self, status: str = "success") -> None:
        """End, if it still works."""
        if not self.failed:
            with self.guarded():
                super().finalize(status)  # type: ignore[misc]


class NoExperiment:
    """In the place of an experiment that could not be opened: takes everything, does nothing."""

    def __getattr__(self, name: str) -> Any:
        return self._nothing

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        return None
