"""How every picture looks, and the values that the metrics are wanted to reach."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnseg.common.files import write_atomically
from attnseg.config.measures import own_measures

# Okabe & Ito's palette (jfly.uni-koeln.de/color): told apart with every common colour blindness.
# Its yellow is left out: it cannot be seen as a line on white.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#222222", "#8A8A8A"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)

# Contours on grey and on heat: cyan is not in the heat map, and the prediction is also dashed.
TRUTH, PREDICTION = "#00E5FF", "#FF9F1C"
HEAT = "inferno"  # perceptually uniform, and ordered in grey too
PHASE_SHADES = ("#E3EEF6", "#FBEFD9", "#E2F2EC", "#F7E8F0")

TITLE, LABEL, SMALL = 10.5, 8.5, 7.5
DPI = 110


@dataclass(frozen=True)
class Target:
    """A value that a metric is wanted to reach; it is drawn, tabulated and diagnosed alike."""

    metric: str
    wanted: float
    higher_is_better: bool
    meaning: str

    def met(self, value: float) -> bool:
        """Whether `value` is strictly on the wanted side; NaN never is."""
        return value > self.wanted if self.higher_is_better else value < self.wanted

    @property
    def aim(self) -> str:
        """The value and the side of it that is wanted."""
        return f"{'>' if self.higher_is_better else '<'} {self.wanted:g}"


TARGETS = {
    name: Target(name, measure.wanted, measure.higher_is_better is True, measure.line)
    for name, measure in own_measures().items()
    if measure.wanted is not None
}


def new_figure(width: float, height: float) -> Any:
    """A matplotlib Figure of `width` x `height` inches, without pyplot.

    No global state: it may be called from any thread, and the figure goes with its last
    reference.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Any, path: Path) -> Path:
    """Write a figure as PNG, atomically; folders are made; returns `path`."""
    write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=DPI))
    return path


def tidy(axes: Any, title: str) -> None:
    """The common look of a chart's axes: left title, light grid, no box."""
    axes.set_title(title, loc="left", fontsize=TITLE, color=BLACK, pad=14)
    axes.tick_params(labelsize=SMALL, colors="#444444", length=3)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#AAAAAA")


def number(value: object, digits: int = 3) -> str:
    """A number as people read it: `digits` significant, a dash for what is not known."""
    try:
        real = float(str(value))
    except ValueError:
        return str(value) if value not in (None, "") else "–"
    if not math.isfinite(real):
        return "–" if math.isnan(real) else str(real)
    if real == int(real) and abs(real) < 1e6:
        return str(int(real))
    if 1 <= abs(real) < 1e6:
        return f"{real:.{max(0, digits - len(str(int(abs(real)))))}f}"
    return f"{real:.{digits}g}"


def as_float(value: object) -> float:
    """A cell as a number: NaN for blank, missing and unreadable ones."""
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def shorten(text: str, length: int = 44) -> str:
    """Cut the middle out of long text: case ids differ at their ends."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def mean(values: Iterable[float]) -> float:
    """Mean of the finite values, NaN where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
