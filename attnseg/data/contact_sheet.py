"""One picture of a data set: some cases' DRR and X-ray with the mask's outline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from attnseg.common.errors import DataError
from attnseg.common.paths import cache_folder
from attnseg.config import DataConfig
from attnseg.data.cache import DecodedCache
from attnseg.data.record import Decoded
from attnseg.data.sources import build_source
from attnseg.data.splits import make_splits
from attnseg.imaging.case import Case

_CASES_A_ROW = 3
_PANEL_INCHES = 2.6
_OUTLINE = "#ffb000"


def contact_sheet(
    config: DataConfig, split: Literal["all", "train", "val", "test"], n: int, path: Path
) -> Path:
    """Draw `n` cases, spread evenly over a split, as the model gets them (before padding).

    Args:
        config: the data section.
        split: whose cases.
        n: at most so many.
        path: the PNG to write.

    Raises:
        DataError: the split is empty, or a case cannot be decoded.
    """
    source = build_source(config)
    cases = source.cases()
    if split != "all":
        cases = make_splits(cases, config.split)[split]
    if not cases:
        raise DataError(f"the {split} split has no cases to show; see data.split")
    picks = np.unique(np.linspace(0, len(cases) - 1, min(n, len(cases))).round().astype(int))
    chosen = [cases[int(pick)] for pick in picks]
    cache = DecodedCache(source, config.size, cache_folder(config.cache_dir))
    cache.warm(chosen)
    _draw(chosen, [cache.get(case) for case in chosen], path)
    return path


def _draw(cases: Sequence[Case], decoded: Sequence[Decoded], path: Path) -> None:
    from matplotlib.figure import Figure

    columns = min(_CASES_A_ROW, len(cases))
    rows = -(-len(cases) // columns)
    size = (2 * columns * _PANEL_INCHES, rows * (_PANEL_INCHES + 0.35))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, 2 * columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (case, images) in enumerate(zip(cases, decoded, strict=True)):
        row, column = divmod(number, columns)
        left, right = axes[row, 2 * column], axes[row, 2 * column + 1]
        _panel(left, images.drr, images)
        _panel(right, images.xray, images)
        left.set_title(f"{_short(case.case_id)}\nDRR", fontsize=7, loc="left")
        right.set_title(f"{_facts(images)}\nX-ray", fontsize=7, loc="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _panel(axis: Any, pixels: Any, images: Decoded) -> None:
    low, high = np.percentile(pixels, (1, 99))
    axis.imshow(pixels, cmap="gray", vmin=low, vmax=high)
    if images.n_foreground:
        axis.contour(images.mask, levels=[0.5], colors=_OUTLINE, linewidths=0.8)


def _facts(images: Decoded) -> str:
    spacing = f"{images.spacing[0]:.2f} mm/px" if images.spacing is not None else "spacing unknown"
    return f"mask {images.n_foreground} px, {spacing}"


def _short(name: str, length: int = 34) -> str:
    return name if len(name) <= length else name[: length - 3] + "..."
