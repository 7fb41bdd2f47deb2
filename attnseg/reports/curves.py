"""The course of a run, drawn from its ledger (metrics.csv)."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from attnseg.common.errors import DataError
from attnseg.reports.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LABEL,
    ORANGE,
    PHASE_SHADES,
    PURPLE,
    SERIES,
    SMALL,
    TARGETS,
    TITLE,
    VERMILION,
    as_float,
    new_figure,
    number,
    save_png,
    shorten,
    tidy,
)
from attnseg.runs.ledger import Row, inspect_ledger

Point = tuple[float, float]
Scale = Literal["linear", "unit", "wide"]

_SPLITS = ("train", "val")
# What a loss, its weight and its learning rate share is told by one colour everywhere.
_COLOURS = {"total": BLACK, "segmentation": VERMILION, "attention": GREEN, "alignment": PURPLE}
_COLOURS |= {"head": BLUE, "backbone": ORANGE}
_MOST_LINES = len(SERIES)  # so that no colour repeats within a panel
_MOST_OTHERS = 2 * _MOST_LINES  # of columns that no panel knows
_WIDE = 100.0  # largest over smallest value from which a `wide` panel is logarithmic
_GROUPS = ("loss/total", "loss/segmentation", "loss/attention", "loss/alignment")


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs with one name; `first` and `last` as in the ledger, both included."""

    name: str
    first: float
    last: float

    @property
    def epochs(self) -> str:
        """The first and last epoch as words."""
        ends = (f"{self.first:.0f}", f"{self.last:.0f}")
        return ends[0] if ends[0] == ends[1] else "–".join(ends)


@dataclass(frozen=True)
class Panel:
    """One chart: columns without their `train/` or `val/`, or whole names where `plain`."""

    title: str
    columns: tuple[str, ...]
    plain: bool = False
    scale: Scale = "linear"  # wide: logarithmic where values span it


_METRIC_PANELS = (
    Panel(
        "overlap of the top 10 % of pixels",
        ("attention_gt_overlap", "seg_gt_overlap", "attention_seg_overlap"),
        scale="unit",
    ),
    Panel("correlation over pixels", ("attention_seg_corr", "attention_gt_corr", "seg_gt_corr")),
    Panel(
        "distance to the lesion, px at 512",
        ("attention_gt_distance", "pointing_game_distance", "seg_gt_distance"),
    ),
    Panel(
        "where attention puts its energy",
        ("pointing_game", "energy_inside", "area_baseline", "soft_iou"),
        scale="unit",
    ),
    Panel("range of the attention map", ("attention_max", "attention_std", "attention_min")),
    Panel(
        "segmentation: Dice and IoU",
        ("dice_positive", "dice_global", "dice_original", "iou_positive"),
        scale="unit",
    ),
    Panel(
        "lesions found: at 0.25, 1, 4 false positives an image; at the threshold",
        (*(f"froc_sensitivity_at_{rate}" for rate in ("0.25", "1", "4")), "lesion_sensitivity"),
        scale="unit",
    ),
    Panel("boundary distance, px at 512", ("hd95",)),
    Panel("attention at the lesion, standard deviations of the map", ("nss",)),
    Panel("false lesions per negative", ("false_positive_lesions_per_negative",)),
)
_SIZED = "lesion_sensitivity_"
# Left out: the same curve in another unit, or beside others of its kind, and counts.
_LEFT_OUT = re.compile(r".*(_mm|_pixels_per_negative)|(froc|n)_.*")


def read_rows(path: Path) -> list[Row]:
    """The ledger's whole rows, as text, ordered by epoch; an absent ledger has none.

    Raises:
        DataError: nothing in the file can be read as a ledger.
    """
    ledger = inspect_ledger(path)
    if ledger.problem and not ledger.rows:
        raise DataError(ledger.problem)
    return ledger.rows


def series(rows: Sequence[Row], column: str) -> list[float]:
    """A column as numbers, NaN where it is blank or missing."""
    return [as_float(row.get(column)) for row in rows]


def phases_of(rows: Sequence[Row]) -> list[Phase]:
    """The phases in order, from the ledger's own column; a blank name is no phase."""
    runs = itertools.groupby(rows, key=lambda row: row.get("phase") or "")
    spans = [(name, [as_float(row["epoch"]) for row in group]) for name, group in runs]
    return [Phase(name, epochs[0], epochs[-1]) for name, epochs in spans if name]


def draw_curves(ledger: Path, path: Path, title: str | None = None) -> Path:
    """Draw a ledger's losses, metrics, rates and loss weights as one PNG.

    Train is dashed, val solid; phases are shaded; dotted lines are the values wanted. A panel
    without a single number is left out, and a column that no panel knows gets one.

    Args:
        ledger: metrics.csv.
        path: the PNG.
        title: above the picture.

    Returns:
        path.

    Raises:
        DataError: the ledger is absent or empty, or is not one.
    """
    rows = read_rows(ledger)
    if not rows:
        raise DataError(f"{ledger} has no rows: the run has not finished an epoch")
    panels = [panel for panel in _panels(rows) if any(True for _ in _lines(panel, rows))]
    columns = min(2, max(1, len(panels)))
    n_rows = max(1, math.ceil(len(panels) / columns))
    figure = new_figure(6.6 * columns, 2.35 * n_rows + 0.8)
    if title:
        figure.suptitle(title, fontsize=TITLE + 1.5, x=0.01, ha="left", color=BLACK)
    grid = figure.subplots(n_rows, columns, squeeze=False).ravel()
    phases = phases_of(rows)
    for axes, panel in itertools.zip_longest(grid, panels):
        if panel is None:
            axes.set_axis_off()
        else:
            _draw_panel(axes, panel, rows, phases)
    for axes in grid[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("epoch", fontsize=LABEL)
    _key(figure, phases)
    return save_png(figure, path)


def _panels(rows: Sequence[Row]) -> Iterator[Panel]:
    """Every panel that the ledger's columns could fill."""
    names = {name for row in rows for name in row if isinstance(name, str)}
    terms = {name for name in _without_split(names) if name.startswith("loss/")}
    groups = [name for name in _GROUPS if name in terms]
    yield Panel("loss", tuple(groups), scale="wide")
    yield from _chunks("loss by term", sorted(terms.difference(groups)), "wide")
    yield from _METRIC_PANELS
    known = {column for panel in _METRIC_PANELS for column in panel.columns}
    rest = _without_split(names) - terms - known
    sized = sorted(name for name in rest if name.startswith(_SIZED))
    yield from _chunks("lesions found at the threshold, by size", sized, "unit")
    others = sorted(n for n in rest.difference(sized) if not _LEFT_OUT.fullmatch(n))
    more = len(others) - _MOST_OTHERS
    title = f"other metrics ({more} more in metrics.csv)" if more > 0 else "other metrics"
    yield from _chunks(title, others[:_MOST_OTHERS], "linear")
    for title, prefix in (("loss weights", "weight/"), ("learning rates", "lr/")):
        columns = sorted(name for name in names if name.startswith(prefix))
        yield Panel(
            title, tuple(columns), plain=True, scale="wide" if prefix == "lr/" else "linear"
        )


def _without_split(names: set[str]) -> set[str]:
    return {name.split("/", 1)[1] for name in names if name.startswith(("train/", "val/"))}


def _chunks(title: str, columns: Sequence[str], scale: Scale) -> Iterator[Panel]:
    for start in range(0, len(columns), _MOST_LINES):
        yield Panel(title, tuple(columns[start : start + _MOST_LINES]), scale=scale)


def _lines(panel: Panel, rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Point]]]:
    """(column, split, finite points) of each line of a panel that has a point."""
    for column in panel.columns:
        for split in ("",) if panel.plain else _SPLITS:
            name = column if panel.plain else f"{split}/{column}"
            values = zip(series(rows, "epoch"), series(rows, name), strict=True)
            # Blank cells are epochs without validation: the line goes on past them.
            points = [(epoch, value) for epoch, value in values if math.isfinite(value)]
            if points:
                yield column, split, points


def _draw_panel(axes: Any, panel: Panel, rows: Sequence[Row], phases: Sequence[Phase]) -> None:
    tidy(axes, panel.title)
    lines = list(_lines(panel, rows))
    drawn = sorted({column for column, _, _ in lines}, key=panel.columns.index)
    colours = {
        column: _COLOURS.get(_short(column), SERIES[index]) for index, column in enumerate(drawn)
    }
    last = {column: points[-1][1] for column, _, points in lines}  # val comes after train
    for column, split, points in lines:
        epochs, values = zip(*points, strict=True)
        first = split != "train" or not any(c == column and s == "val" for c, s, _ in lines)
        label = f"{shorten(_short(column), 25)}  {number(last[column])}" if first else None
        axes.plot(
            epochs,
            values,
            color=colours[column],
            linestyle="--" if split == "train" else "-",
            linewidth=1.1 if split == "train" else 1.6,
            marker="o" if len(points) < 3 else None,
            markersize=4,
            clip_on=len(points) > 2,  # a point on the edge is seen whole
            label=label,
        )
    for column in drawn:
        if column in TARGETS:
            axes.axhline(TARGETS[column].wanted, color=colours[column], linestyle=":", linewidth=1)
    _limits(axes, panel, [value for _, _, points in lines for _, value in points], rows)
    _shade(axes, phases, rows)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.0, 1.02),
        fontsize=SMALL,
        frameon=False,
        handlelength=1.2,
    )


def _limits(axes: Any, panel: Panel, values: Sequence[float], rows: Sequence[Row]) -> None:
    """The axes' ranges; a logarithmic one where the values need it and allow it."""
    from matplotlib.ticker import MaxNLocator

    epochs = series(rows, "epoch")
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    if panel.scale == "unit":
        axes.set_ylim(min(-0.03, *values, 0), max(1.03, *values))
    elif panel.scale == "wide" and min(values) > 0 and max(values) > _WIDE * min(values):
        axes.set_yscale("log")
    elif min(values) >= 0:
        axes.set_ylim(bottom=0)


def _shade(axes: Any, phases: Sequence[Phase], rows: Sequence[Row]) -> None:
    """Phases as shades, named above them where the name fits and numbered where not."""
    epochs = series(rows, "epoch")
    width = epochs[-1] - epochs[0] + 1
    for index, phase in enumerate(phases):
        shade = PHASE_SHADES[index % len(PHASE_SHADES)]
        axes.axvspan(phase.first - 0.5, phase.last + 0.5, color=shade, linewidth=0, zorder=0)
        fits = len(phase.name) < 70 * (phase.last - phase.first + 1) / width
        axes.text(
            (phase.first + phase.last) / 2,
            1.01,
            phase.name if fits else str(index + 1),
            transform=axes.get_xaxis_transform(),
            fontsize=SMALL - 1,
            color=GREY,
            ha="center",
            va="bottom",
        )


def _key(figure: Any, phases: Sequence[Phase]) -> None:
    """What line styles and shades mean, below the picture."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=BLACK, linewidth=1.6, label="val"),
        Line2D([], [], color=BLACK, linewidth=1.1, linestyle="--", label="train"),
        Line2D([], [], color=BLACK, linewidth=1, linestyle=":", label="wanted"),
    ]
    for index, phase in enumerate(phases):
        words = f"{index + 1} {phase.name}: epochs {phase.epochs}"
        handles.append(Patch(color=PHASE_SHADES[index % len(PHASE_SHADES)], label=words))
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=min(6, len(handles)),
        fontsize=LABEL,
        frameon=False,
    )


def _short(column: str) -> str:
    """A column's name without what its panel says already."""
    for prefix in ("loss/", "weight/", "lr/", "froc_sensitivity_", "false_positive_", _SIZED):
        column = column.removeprefix(prefix)
    column = column.removesuffix("_per_negative")
    return column.replace("at_", "at ") if column.startswith("at_") else column
