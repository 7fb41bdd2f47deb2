"""The courses of all runs in one picture: metrics with phases shaded, and the loss weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnseg.build import build_schedule
from attnseg.common.errors import ConfigError
from attnseg.config import ScheduleConfig, validate
from attnseg.reports.compare.look import Look, look_at, looks, state_mark
from attnseg.reports.compare.study import ComparedRun, Group, Study
from attnseg.reports.curves import Phase, phases_of, series
from attnseg.reports.style import (
    BLACK,
    GREY,
    LABEL,
    PHASE_SHADES,
    SMALL,
    TARGETS,
    new_figure,
    save_png,
    shorten,
    tidy,
)
from attnseg.schedules.phases import WEIGHT_NAMES

Layout = tuple[Phase, ...]
Points = list[tuple[float, float]]

_MOST_LAYOUTS = 6  # strips of phases above a panel; more would hide it
_UNIT = ("overlap", "dice", "iou", "froc", "sensitivity", "pointing_game", "energy")


def draw_metric_curves(study: Study, metrics: Sequence[str], path: Path) -> Path | None:
    """Draw a panel a metric with a line a run, coloured by group; None where no run has any.

    Runs that differ by seed only are thin, their mean is thick. A line ends where its run ends;
    a cross there says that the run did not finish. Where all runs have the same phases they
    shade the panels; else each layout is a strip above them.
    """
    columns = ["val/loss/total", *(f"val/{name}" for name in metrics)]
    columns = [c for c in columns if any(True for _ in _curves(study, c))]
    if not columns:
        return None
    layouts = _layouts(study)
    n_rows = math.ceil(len(columns) / 2)
    width = min(2, len(columns))
    figure = new_figure(6.3 * width, (2.6 + 0.09 * len(layouts)) * n_rows + 0.2 * _keys(study))
    grid = figure.subplots(n_rows, width, squeeze=False).ravel()
    for axes, column in zip(grid, columns, strict=False):
        _draw_metric(axes, study, column)
        _phases(axes, layouts, _longest(study))
    for axes in grid[len(columns) :]:
        axes.set_axis_off()
    for axes in grid[max(0, len(columns) - width) : len(columns)]:
        axes.set_xlabel("epoch", fontsize=LABEL)
    _legend(figure, study, looks(study), any(state_mark(run) for _, run in study.runs))
    return save_png(figure, path)


def draw_schedules(study: Study, path: Path) -> Path | None:
    """Draw every loss weight over the epochs, a line a schedule; None where nothing is known.

    From the configuration; of adaptive schedules, whose weights are learned, from the ledger.
    """
    curves = _distinct_schedules(study)
    if not curves:
        return None
    shown = [n for n in WEIGHT_NAMES if any(n in weights for weights in curves.values())]
    layouts = _layouts(study)
    height = 2.9 + 0.09 * len(layouts) + 0.2 * math.ceil((len(curves) + len(layouts)) / 2)
    figure = new_figure(4.2 * len(shown), height)
    grid = figure.subplots(1, len(shown), squeeze=False)[0]
    styles = {label: look_at(index, dashed=True) for index, label in enumerate(curves)}
    for axes, name in zip(grid, shown, strict=True):
        tidy(axes, f"weight of the {name} loss")
        for label, look in styles.items():
            points = curves[label].get(name, [])
            if points:
                epochs, values = zip(*points, strict=True)
                axes.plot(epochs, values, color=look.colour, linestyle=look.line, linewidth=1.8)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("epoch", fontsize=LABEL)
        _phases(axes, layouts, _longest(study))
    _legend(figure, study, styles, marks=False)
    return save_png(figure, path)


def _distinct_schedules(study: Study) -> dict[str, Mapping[str, Points]]:
    """Label -> weights; groups with the same weights are one line, named by what they share."""
    known = [(group, weights) for group in study.groups if (weights := weight_curves(group))]
    found: list[tuple[Mapping[str, Points], list[Group]]] = []
    for group, weights in known:
        same = next((groups for other, groups in found if other == weights), None)
        if same is None:
            found.append((weights, [group]))
        else:
            same.append(group)
    return {_shared_words(study, groups): weights for weights, groups in found}


def _shared_words(study: Study, groups: Sequence[Group]) -> str:
    """A lone group's label; of several, the differing keys in which all of them agree."""
    if len(groups) == 1:
        return groups[0].label
    first = groups[0].values
    shared = [k for k in study.keys if len({g.values[k] for g in groups}) == 1 and first[k] != "–"]
    words = ", ".join(f"{study.keys[key]}={first[key]}" for key in shared)
    return words or f"{groups[0].label} and {len(groups) - 1} more"


def weight_curves(group: Group) -> Mapping[str, Points]:
    """Weight -> its (epoch, value) points over the run, epochs from 1."""
    for run in group.runs:
        config = run.record.config.get("schedule")
        adaptive = isinstance(config, Mapping) and config.get("adaptive")
        if isinstance(config, Mapping) and not adaptive:
            try:
                curves = build_schedule(validate(config, ScheduleConfig)).weight_curves()
            except ConfigError:
                continue
            return {n: list(enumerate(map(float, c), start=1)) for n, c in curves.items()}
    for run in group.runs:
        found = {name: _points(run, f"weight/{name}") for name in WEIGHT_NAMES}
        if any(found.values()):
            return {name: points for name, points in found.items() if points}
    return {}


def _draw_metric(axes: Any, study: Study, column: str) -> None:
    name = column.removeprefix("val/")
    tidy(axes, f"{name}, validation")
    styles = looks(study)
    values: list[float] = []
    for group, run, points in _curves(study, column):
        look, alone = styles[group.label], len(group.runs) == 1
        epochs, heights = zip(*points, strict=True)
        values += heights
        axes.plot(
            epochs,
            heights,
            color=look.colour,
            linestyle=look.line,
            linewidth=1.6 if alone else 0.8,
            alpha=0.95 if alone else 0.45,
            marker="o" if len(points) == 1 else None,
            markersize=3,
        )
        mark = state_mark(run)
        if mark:
            axes.plot(*points[-1], mark, color=look.colour, markersize=6, clip_on=False, zorder=4)
    for group in study.groups:
        middle = _mean_curve(group, column)
        if middle:
            look = styles[group.label]
            axes.plot(*zip(*middle, strict=True), color=look.colour, linestyle=look.line, lw=2.0)
    if name in TARGETS:
        axes.axhline(TARGETS[name].wanted, color=GREY, linestyle=":", linewidth=1)
    if any(word in name for word in _UNIT) and max(values) <= 1.0 and "distance" not in name:
        axes.set_ylim(-0.03, 1.03)
    elif min(values) >= 0:
        axes.set_ylim(bottom=0)


def _mean_curve(group: Group, column: str) -> Points:
    """Mean over a group's counted runs (two at least) at the epochs that all of them have."""
    curves = [dict(points) for run in group.counted if (points := _points(run, column))]
    if len(curves) < 2:
        return []
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))
    return [(epoch, sum(curve[epoch] for curve in curves) / len(curves)) for epoch in shared]


def _curves(study: Study, column: str) -> Iterator[tuple[Group, ComparedRun, Points]]:
    for group, run in study.runs:
        points = _points(run, column)
        if points:
            yield group, run, points


def _points(run: ComparedRun, column: str) -> Points:
    rows = run.record.rows
    pairs = zip(series(rows, "epoch"), series(rows, column), strict=True)
    return [(epoch, value) for epoch, value in pairs if math.isfinite(value)]


def _layouts(study: Study) -> dict[Layout, list[Group]]:
    """Each way in which runs are divided into phases -> the groups that have it."""
    found: dict[Layout, list[Group]] = {}
    for group in study.groups:
        layout = _layout(group)
        if layout:
            found.setdefault(layout, []).append(group)
    return found


def _layout(group: Group) -> Layout:
    """From the configuration, where it can be read; else from the longest ledger."""
    for run in group.runs:
        config = run.record.config.get("schedule")
        if isinstance(config, Mapping):
            try:
                spans = build_schedule(validate(config, ScheduleConfig)).spans()
            except ConfigError:
                continue
            return tuple(Phase(name, start + 1, stop) for name, start, stop in spans)
    ledgers = sorted((run.record.rows for run in group.runs), key=len)
    return tuple(phases_of(ledgers[-1])) if ledgers else ()


def _phases(axes: Any, layouts: Mapping[Layout, list[Group]], longest: float) -> None:
    """One layout: shades behind the lines. Several: a strip each above the panel."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0.5, longest + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    shown = list(layouts)[:_MOST_LAYOUTS]
    for level, layout in enumerate(reversed(shown)):  # the first on top, as in the legend
        for index, phase in enumerate(layout):
            low, high = (
                (0.0, 1.0) if len(shown) == 1 else (1.01 + 0.05 * level, 1.055 + 0.05 * level)
            )
            axes.axvspan(
                phase.first - 0.5,
                phase.last + 0.5,
                low,
                high,
                color=PHASE_SHADES[index % len(PHASE_SHADES)],
                linewidth=0,
                zorder=0,
                clip_on=False,
            )
            fits = len(phase.name) < 62 * (phase.last - phase.first + 1) / longest
            place = 1.01 if len(shown) == 1 else (low + high) / 2
            axes.text(
                (phase.first + phase.last) / 2,
                place,
                phase.name if fits else str(index + 1),
                transform=axes.get_xaxis_transform(),
                fontsize=SMALL - 2,
                color="#555555",
                ha="center",
                va="bottom" if len(shown) == 1 else "center",
            )
    if len(shown) > 1:
        axes.set_title(axes.get_title(loc="left"), loc="left", pad=7 + 8.5 * len(shown))


def _longest(study: Study) -> float:
    planned = [run.record.total or 0 for _, run in study.runs]
    done = [run.record.epoch for _, run in study.runs]
    return float(max([1, *planned, *done]))


def _keys(study: Study) -> int:
    """Rows of the legend below."""
    return math.ceil((len(study.groups) + len(_layouts(study)) + 1) / 2)


def _legend(figure: Any, study: Study, styles: Mapping[str, Look], marks: bool) -> None:
    """Below the picture: lines, the cross, and which phases the shades are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=k.colour, linestyle=k.line, linewidth=2, label=shorten(label, 70))
        for label, k in styles.items()
    ]
    if marks:
        style: dict[str, Any] = {"color": BLACK, "marker": "X", "linestyle": "", "markersize": 6}
        handles.append(Line2D([], [], label="did not finish", **style))
    layouts = _layouts(study)
    for layout, groups in list(layouts.items())[:_MOST_LAYOUTS]:
        phases = ", ".join(f"{index} {p.name} {p.epochs}" for index, p in enumerate(layout, 1))
        whose = "" if len(layouts) == 1 else f"{_shared_words(study, groups)}: "
        handles.append(Patch(color=PHASE_SHADES[0], label=shorten(whose + phases, 92)))
    figure.legend(
        handles=handles, loc="outside lower left", ncols=2, fontsize=SMALL + 0.5, frameon=False
    )
