"""One metric over two swept keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnseg.common.errors import ConfigError
from attnseg.reports.compare.differences import find_key
from attnseg.reports.compare.statistics import mean_sd
from attnseg.reports.compare.study import Study
from attnseg.reports.compare.tables import mean_words
from attnseg.reports.style import LABEL, SMALL, new_figure, save_png, shorten, tidy

_MAP = "cividis"  # made for colour-blind readers (Nuñez 2018), ordered in grey too


def heat_keys(study: Study, asked: Sequence[str]) -> tuple[str, str] | None:
    """The two keys of the heat map: those asked for, or the only two that differ in a grid.

    Runs that change both keys at once fill a diagonal, which is no map.

    Raises:
        ConfigError: a key that was asked for is not one that differs here.
    """
    keys = list(study.keys)
    if not asked:
        most = max((len({g.values[key] for g in study.groups}) for key in keys), default=0)
        return (keys[0], keys[1]) if len(keys) == 2 and len(study.groups) > most else None
    found = [find_key(word, keys) for word in asked]
    wrong = [word for word, fits in zip(asked, found, strict=True) if len(fits) != 1]
    if wrong:
        known = ", ".join(study.keys.values()) or "none"
        raise ConfigError(
            f"heatmap=[{','.join(asked)}]: {', '.join(wrong)} is not a key that differs between "
            f"these runs; those that do: {known}"
        )
    return found[0][0], found[1][0]


def heat_cells(
    study: Study, keys: tuple[str, str], metric: str
) -> tuple[list[str], list[str], dict[tuple[str, str], list[float]]]:
    """Values of the first key (rows), of the second (columns), and each cell's runs' metrics."""
    cells: dict[tuple[str, str], list[float]] = {}
    for group in study.groups:
        place = (group.values[keys[0]], group.values[keys[1]])
        cells.setdefault(place, [])
        cells[place] += [v for run in group.counted if math.isfinite(v := run.metric(metric))]
    rows, columns = (_ordered({place[axis] for place in cells}) for axis in (0, 1))
    return rows, columns, cells


def draw_heatmap(study: Study, keys: tuple[str, str], metric: str, path: Path) -> Path | None:
    """Draw mean ± sd (number of runs) of each cell; None where no cell has a value.

    A cell averages over all its runs: seeds, and whatever else differs between them.
    """
    rows, columns, cells = heat_cells(study, keys, metric)
    means = np.array([[mean_sd(cells.get((r, c), []))[0] for c in columns] for r in rows])
    if not np.isfinite(means).any():
        return None
    figure = new_figure(max(4.8, 1.25 * len(columns) + 2.8), 0.72 * len(rows) + 1.7)
    axes = figure.subplots()
    good = study.higher_is_better(metric)
    end = "" if good is None else " (higher is better)" if good else " (lower is better)"
    tidy(axes, f"{metric}, {study.split} split{end}")
    axes.grid(False)
    image = axes.imshow(np.ma.masked_invalid(means), cmap=_MAP, aspect="auto")
    _write(axes, rows, columns, cells, image)
    for axis, key, names in ((axes.yaxis, keys[0], rows), (axes.xaxis, keys[1], columns)):
        axis.set_ticks(range(len(names)), [shorten(name, 22) for name in names], fontsize=SMALL + 1)
        axis.set_label_text(study.keys[key], fontsize=LABEL)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, fraction=0.05)
    bar.ax.tick_params(labelsize=SMALL, length=2)
    bar.outline.set_visible(False)
    return save_png(figure, path)


def _write(
    axes: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: dict[tuple[str, str], list[float]],
    image: Any,
) -> None:
    """The numbers, dark on light and light on dark."""
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            values = cells.get((row, column), [])
            middle, spread = mean_sd(values)
            if not values:
                axes.text(j, i, "–", ha="center", va="center", fontsize=LABEL, color="#666666")
                continue
            red, green, blue, _ = image.cmap(image.norm(middle))
            light = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
            words = mean_words(middle, spread).replace(" ±", "\n±")
            words += f" ({len(values)})" if len(values) > 1 else ""
            axes.text(
                j,
                i,
                words,
                ha="center",
                va="center",
                fontsize=LABEL,
                color="#111111" if light else "white",
            )


def _ordered(values: set[str]) -> list[str]:
    """Numbers by size, then words by letter."""

    def key(text: str) -> tuple[int, float, str]:
        try:
            return 0, float(text), ""
        except ValueError:
            return 1, 0.0, text

    return sorted(values, key=key)
