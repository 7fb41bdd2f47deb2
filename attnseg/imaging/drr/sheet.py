"""One picture of what was projected: DRRs with the outline of their masks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attnseg.imaging.images import read_image, read_mask

_COLUMNS = 4
_PANEL_INCHES = 2.8
_OUTLINE = "#ffb000"


def draw_sheet(out: Path, rows: Sequence[dict[str, str]], n: int) -> Path:
    """Draw `n` rows of a manifest, spread evenly, as out/contact_sheet.png."""
    from matplotlib.figure import Figure

    picks = np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int))
    columns = min(_COLUMNS, len(picks))
    lines = -(-len(picks) // columns)
    figure = Figure(
        figsize=(columns * _PANEL_INCHES, lines * (_PANEL_INCHES + 0.35)), layout="constrained"
    )
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, pick in zip(axes.flat, picks, strict=False):
        row = rows[int(pick)]
        axis.imshow(read_image(out / row["drr"]).pixels, cmap="gray")
        title = "mask unknown"
        if row["mask"] != "unlabelled":
            title = "no nodule"
            mask = read_mask(out / row["mask"]).pixels if row["mask"] != "none" else np.zeros(1)
            if mask.any():
                axis.contour(mask, levels=[0.5], colors=_OUTLINE, linewidths=0.8)
                title = f"mask {int(mask.sum())} px"
        axis.set_title(f"{row['case'][-40:]}\n{title}, {row['spacing']} mm", fontsize=6, loc="left")
    path = out / "contact_sheet.png"
    with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as folder:
        temporary = Path(folder) / path.name
        figure.savefig(temporary, dpi=130)
        temporary.replace(path)
    return path
