"""Telling the user what happens."""

from __future__ import annotations

from lightning_utilities.core.rank_zero import rank_zero_only


@rank_zero_only
def tell(text: str) -> None:
    """One line for the user, above a progress bar where there is one; on rank zero."""
    print(text, flush=True)
