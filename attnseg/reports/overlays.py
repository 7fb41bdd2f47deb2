"""What the model saw, where it looked and what it found: pictures of single cases."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg.reports.style import (
    BLACK,
    HEAT,
    LABEL,
    PREDICTION,
    SMALL,
    TITLE,
    TRUTH,
    mean,
    new_figure,
    number,
    save_png,
    shorten,
)

Array = npt.NDArray[Any]
Box = tuple[int, int, int, int]
"""top, left, height, width in pixels."""

_PANEL = 2.15  # inches a panel
_LINE = 58  # letters of a run's label above its two panels
_LEAST_ZOOM = 0.16  # of the image's sides: some anatomy stays around a nodule
_LABELS = {
    "dice": "Dice",
    "dice_positive": "Dice",
    "attention_gt_overlap": "overlap",
    "attention_seg_corr": "corr",
    "attention_gt_distance": "distance",
}


@dataclass(frozen=True)
class OverlayCase:
    """One case to draw; all arrays (H, W) on one grid.

    Attributes:
        case_id: shown above the row.
        xray: any intensity scale.
        drr: any intensity scale.
        mask: ground truth, 0/1.
        attention: in [0, 1].
        probability: predicted, in [0, 1].
        threshold: a pixel is predicted where its probability is strictly above it.
        metrics: by their metric names; the known ones go into the title.
        content: the real image inside the padding (top, left, height, width); None: all of it.
    """

    case_id: str
    xray: Array
    drr: Array
    mask: Array
    attention: Array
    probability: Array
    threshold: float = 0.5
    metrics: Mapping[str, float] = field(default_factory=dict)
    content: Box | None = None

    def __post_init__(self) -> None:
        images = (self.xray, self.drr, self.mask, self.attention, self.probability)
        shapes = {image.shape for image in images}
        assert len(shapes) == 1, f"{self.case_id}: images on different grids: {shapes}"
        assert self.xray.ndim == 2, f"{self.case_id}: images are not 2-D: {self.xray.shape}"

    @property
    def prediction(self) -> Array:
        """The predicted mask, bool (H, W)."""
        return np.asarray(self.probability > self.threshold)

    def cropped(self) -> OverlayCase:
        """The same case without its padding."""
        if self.content is None:
            return self
        top, left, height, width = (int(value) for value in self.content)
        inside = np.s_[top : top + height, left : left + width]
        names = ("xray", "drr", "mask", "attention", "probability")
        return replace(self, content=None, **{name: getattr(self, name)[inside] for name in names})


def draw_overlay(case: OverlayCase, path: Path, title: str | None = None) -> Path:
    """Draw one case as a PNG; see `draw_overlays`."""
    return draw_overlays([case], path, title)


def draw_overlays(cases: Sequence[OverlayCase], path: Path, title: str | None = None) -> Path:
    """Draw a row of panels for each case and write it as a PNG.

    Panels: X-ray, DRR, attention over the DRR, predicted probability, contours of truth and
    prediction on the X-ray, the same zoomed around the lesion (or, without one, around the
    largest predicted spot, else the attention's peak). A frame on the X-ray shows where the
    zoom is, since a nodule is about 0.1 % of the image.

    Args:
        cases: drawn from top to bottom; their padding is cropped.
        path: the PNG; its folder is made.
        title: above the picture.

    Returns:
        path.
    """
    assert cases, "no case to draw"
    shown = [case.cropped() for case in cases]
    heights = [_PANEL * _aspect(case) + 0.5 for case in shown]
    figure = new_figure(6 * _PANEL + 0.9, sum(heights) + (0.75 if title else 0.4))
    if title:
        figure.suptitle(title, fontsize=TITLE + 1.5, x=0.01, ha="left", color=BLACK)
    rows = figure.subfigures(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for row, case in zip(rows, shown, strict=True):
        _draw_row(row, case)
    _contour_key(figure)
    return save_png(figure, path)


def draw_comparison(
    named_cases: Mapping[str, Sequence[OverlayCase]],
    path: Path,
    headers: Mapping[str, Mapping[str, float]] | None = None,
) -> Path:
    """Draw the same cases under one or more runs, side by side, as a PNG.

    A row a case: X-ray with the truth, then for each run its attention over the DRR and its
    prediction on the X-ray with the zoomed lesion in a corner.

    Args:
        named_cases: a run's label (long ones are wrapped) -> its cases; those that every run has
            are drawn, in the first run's order.
        path: the PNG.
        headers: a run's label -> metrics over its whole data set, written under the label;
            None: the mean over the cases drawn, and the header says so.

    Returns:
        path.
    """
    runs = {label: {case.case_id: case for case in cases} for label, cases in named_cases.items()}
    first = next(iter(runs.values()))
    shared = [case_id for case_id in first if all(case_id in run for run in runs.values())]
    assert shared, "the runs have no case in common"
    heights = [1.3 * _PANEL * _aspect(first[case_id].cropped()) + 0.25 for case_id in shared]
    lines = 1 + max(len(textwrap.wrap(label, _LINE)) for label in runs)
    top_height = 0.1 + 0.2 * lines
    figure = new_figure((1 + 2 * len(runs)) * 1.3 * _PANEL, sum(heights) + 0.5 + top_height)
    ratios = [top_height, *heights]
    grid = figure.add_gridspec(len(shared) + 1, 1 + 2 * len(runs), height_ratios=ratios)
    for index, label in enumerate(runs):
        top = figure.add_subplot(grid[0, 1 + 2 * index : 3 + 2 * index])
        top.axis("off")
        drawn = [runs[label][case_id].metrics for case_id in shared]
        words = f"{textwrap.fill(label, _LINE)}\n{_header(label, drawn, headers)}"
        top.text(0.5, 0.5, words, ha="center", va="center", fontsize=LABEL + 1, color=BLACK)
    for row, case_id in enumerate(shared, start=1):
        _draw_truth(figure.add_subplot(grid[row, 0]), first[case_id].cropped())
        for index, run in enumerate(runs.values()):
            pair = [figure.add_subplot(grid[row, 1 + 2 * index + side]) for side in (0, 1)]
            _draw_compared(pair, run[case_id].cropped())
    _contour_key(figure)
    return save_png(figure, path)


def zoom_box(case: OverlayCase) -> Box:
    """What to magnify: the largest lesion, else predicted spot, else the attention's peak.

    The box has the image's own proportions.
    """
    from scipy import ndimage

    shape = case.mask.shape
    region = case.mask > 0 if case.mask.any() else case.prediction
    if region.any():
        labels, _ = ndimage.label(region)
        largest = int(np.bincount(labels.ravel())[1:].argmax())
        spans = ndimage.find_objects(labels)[largest]
        centre = [(span.start + span.stop) / 2 for span in spans]
        extent = [span.stop - span.start for span in spans]
    else:
        centre, extent = list(_peak(case.attention)), [1, 1]
    share = max(2.5 * extent[0] / shape[0], 2.5 * extent[1] / shape[1], _LEAST_ZOOM)
    height, width = (max(1, round(min(share, 1.0) * side)) for side in shape)
    top = min(max(round(centre[0] - height / 2), 0), shape[0] - height)
    left = min(max(round(centre[1] - width / 2), 0), shape[1] - width)
    return top, left, height, width


def _draw_row(row: Any, case: OverlayCase) -> None:
    """The six panels of one case into a subfigure."""
    from matplotlib.cm import ScalarMappable

    row.suptitle(_caption(case), fontsize=LABEL + 0.5, x=0.01, ha="left", color=BLACK)
    axes = row.subplots(1, 6)
    box = zoom_box(case)
    _grey(axes[0], case.xray, "X-ray")
    _frame(axes[0], box)
    _grey(axes[1], case.drr, "DRR")
    _attention(axes[2], case)
    _colour_bar(ScalarMappable(cmap=HEAT), axes[2], 1.0)
    # Rare lesions can have thresholds of a few per cent: what is found must not look black.
    top = min(1.0, max(2 * case.threshold, 0.02))
    image = axes[3].imshow(case.probability, cmap=HEAT, vmin=0, vmax=top)
    _finish(axes[3], "probability")
    _colour_bar(image, axes[3], top)
    _grey(axes[4], case.xray, f"prediction > {number(case.threshold)}")
    _contours(axes[4], case, width=1.0)
    _grey(axes[5], case.xray, "zoom")
    _contours(axes[5], case, width=1.6)
    _zoom(axes[5], box)


def _draw_truth(axes: Any, case: OverlayCase) -> None:
    kind = "" if case.mask.any() else " (no lesion)"
    _grey(axes, case.xray, shorten(case.case_id, 24) + kind)
    _outline(axes, case.mask > 0, TRUTH, 1.2, "-")


def _draw_compared(axes: Any, case: OverlayCase) -> None:
    """One run's attention and prediction for one case."""
    _attention(axes[0], case)
    words = _pick(case, "attention_gt_overlap", "attention_gt_distance")
    _finish(axes[0], f"attention: {words}" if case.mask.any() else "attention")
    _grey(axes[1], case.xray, f"prediction: {_pick(case, 'dice', 'attention_seg_corr')}")
    _contours(axes[1], case, width=1.0)
    box = zoom_box(case)
    _frame(axes[1], box)
    height, width = case.mask.shape
    # The corner across from the lesion, so that the inset never hides it.
    x = 0.01 if box[1] + box[3] / 2 > width / 2 else 0.55
    y = 0.01 if box[0] + box[2] / 2 < height / 2 else 0.55
    inset = axes[1].inset_axes((x, y, 0.44, 0.44))
    _grey(inset, case.xray, "")
    _contours(inset, case, width=1.4)
    _zoom(inset, box)


def _attention(axes: Any, case: OverlayCase) -> None:
    """Attention over the DRR: the heat is more opaque where attention is higher."""
    _grey(axes, case.drr, "attention on DRR")
    attention = np.clip(np.nan_to_num(case.attention), 0, 1)
    axes.imshow(attention, cmap=HEAT, vmin=0, vmax=1, alpha=0.35 + 0.55 * attention)
    if attention.max() > attention.min():
        row, column = _peak(attention)
        axes.plot(column, row, "+", color="white", markersize=7, markeredgewidth=1.2)
    _outline(axes, case.mask > 0, TRUTH, 1.0, "-")


def _grey(axes: Any, image: Array, title: str) -> None:
    """An image in grey between its 1st and 99th percentile."""
    low, high = np.nanpercentile(image, (1, 99)) if np.isfinite(image).any() else (0.0, 1.0)
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
    _finish(axes, title)


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=LABEL, color="#444444", pad=3)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _colour_bar(image: Any, axes: Any, top: float) -> None:
    place = axes.inset_axes((1.03, 0.0, 0.045, 1.0))
    bar = axes.figure.colorbar(image, cax=place, ticks=[0, top / 2, top])
    bar.ax.set_yticklabels(["0", number(top / 2), number(top)])
    bar.ax.tick_params(labelsize=SMALL - 1, length=2)
    bar.outline.set_visible(False)


def _contours(axes: Any, case: OverlayCase, width: float) -> None:
    _outline(axes, case.mask > 0, TRUTH, width, "-")
    _outline(axes, case.prediction, PREDICTION, width, "--")


def _outline(axes: Any, region: Array, colour: str, width: float, style: str) -> None:
    """The boundary of a binary region; the image's own edge counts as outside."""
    if not region.any():
        return
    padded = np.pad(region.astype(float), 1)
    rows, columns = (np.arange(size + 2) - 1 for size in region.shape)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.contour(
        columns, rows, padded, [0.5], colors=[colour], linewidths=width, linestyles=[style]
    )
    axes.set(xlim=limits[0], ylim=limits[1])


def _frame(axes: Any, box: Box) -> None:
    from matplotlib.patches import Rectangle

    top, left, height, width = box
    corner = (left - 0.5, top - 0.5)
    axes.add_patch(Rectangle(corner, width, height, fill=False, color="white", linewidth=0.8))


def _zoom(axes: Any, box: Box) -> None:
    top, left, height, width = box
    axes.set(xlim=(left - 0.5, left + width - 0.5), ylim=(top + height - 0.5, top - 0.5))
    for spine in axes.spines.values():
        spine.set(visible=True, color="white", linewidth=1.2)


def _aspect(case: OverlayCase) -> float:
    height, width = case.mask.shape
    return float(height / width)


def _peak(attention: Array) -> tuple[float, float]:
    row, column = np.unravel_index(int(np.nan_to_num(attention).argmax()), attention.shape)
    return float(row), float(column)


def _contour_key(figure: Any) -> None:
    """The key below the picture."""
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=TRUTH, linewidth=2.2, label="ground truth"),
        Line2D([], [], color=PREDICTION, linewidth=2.2, linestyle="--", label="prediction"),
        Line2D([], [], color="white", marker="+", linestyle="", label="attention's peak"),
    ]
    key = figure.legend(
        handles=lines, loc="outside lower left", ncols=3, fontsize=LABEL, facecolor="#555555"
    )
    for text in key.get_texts():
        text.set_color("white")


def _caption(case: OverlayCase) -> str:
    kind = "" if case.mask.any() else "   no lesion"
    known = ("dice", "attention_gt_overlap", "attention_gt_distance", "attention_seg_corr")
    words = _pick(case, *known)
    return shorten(case.case_id, 60) + kind + (f"   |   {words}" if words else "")


def _pick(case: OverlayCase, *names: str) -> str:
    """The named metrics that the case has, as words; a case without a lesion has none to show."""
    if not case.mask.any():
        return f"{int(case.prediction.sum())} px found"
    return _words({name: case.metrics[name] for name in names if name in case.metrics})


def _words(metrics: Mapping[str, float]) -> str:
    parts = []
    for name, value in metrics.items():
        text = f"{value:.0f} px" if name == "attention_gt_distance" else f"{value:.2f}"
        parts.append(f"{_LABELS[name]} {text if np.isfinite(value) else '–'}")
    return "   ".join(parts)


def _header(
    label: str,
    drawn: Sequence[Mapping[str, float]],
    headers: Mapping[str, Mapping[str, float]] | None,
) -> str:
    """A run's metrics: those of its whole data set where given, else of the cases drawn."""
    names = ("dice_positive", "attention_gt_overlap", "attention_gt_distance", "attention_seg_corr")
    if headers is not None:
        return _words({name: headers[label][name] for name in names if name in headers[label]})
    per_case = [name.replace("dice_positive", "dice") for name in names]
    known = [name for name in per_case if any(name in metrics for metrics in drawn)]
    means = {name: mean(metrics.get(name, np.nan) for metrics in drawn) for name in known}
    return _words(means) + f"   (mean of these {len(drawn)})"
