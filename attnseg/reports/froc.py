"""The FROC curve of an evaluation, by the size of the lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from attnseg.common.files import read_csv
from attnseg.metrics.froc import RATES, SIZE_BINS, froc_sensitivity
from attnseg.metrics.lesions import NOT_FOUND
from attnseg.reports.style import (
    BLACK,
    BLUE,
    GREEN,
    LABEL,
    SMALL,
    VERMILION,
    as_float,
    new_figure,
    save_png,
    tidy,
)

Scores = npt.NDArray[np.float32]

LESIONS, CANDIDATES = "gt_lesions.csv", "candidates.csv"
"""What an evaluation writes; see `attnseg.evaluation.lesion_tables`."""

_DENSE = tuple(np.geomspace(RATES[0], RATES[-1], 97))


def draw_froc(output_dir: Path, n_images: int) -> Path | None:
    """Draw froc.png from the tables of lesions of a folder that was measured.

    Sensitivity against false positives an image, of all lesions and by their equivalent diameter;
    the false positives are the same for all: a network does not know which size it looks for.

    Args:
        output_dir: holds gt_lesions.csv and candidates.csv.
        n_images: how many cases were measured, with and without a lesion.

    Returns:
        The picture, or None where there is no lesion.
    """
    picture = output_dir / "froc.png"
    lesions = read_csv(output_dir / LESIONS)
    if not lesions:
        picture.unlink(missing_ok=True)  # of an earlier measurement
        return None
    score = np.array([float(row["score"] or NOT_FOUND) for row in lesions], dtype=np.float32)
    size = np.array([as_float(row["diameter_px"]) for row in lesions])
    wrong = [row["score"] for row in read_csv(output_dir / CANDIDATES) if not row["lesions"]]
    false = np.array(wrong, dtype=np.float32)
    small, large = SIZE_BINS["px"]
    groups = (
        ("all", score, BLACK, "-"),
        (f"above {large:g} px", score[size > large], GREEN, "--"),
        (f"{small:g} to {large:g} px", score[(size >= small) & (size <= large)], BLUE, "-."),
        (f"below {small:g} px", score[size < small], VERMILION, ":"),
    )
    figure = new_figure(6.4, 4.6)
    axes = figure.subplots()
    tidy(axes, f"FROC: {len(lesions)} lesions, {n_images} images")
    for name, scores, colour, style in groups:
        if len(scores):
            curve = froc_sensitivity(scores, false, n_images, _DENSE)
            label = f"{name} ({len(scores)})"
            axes.step(_DENSE, curve, style, where="post", color=colour, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    axes.set(xlim=(RATES[0], RATES[-1]), ylim=(0, 1))
    axes.set_xlabel("false positives an image", fontsize=LABEL)
    axes.set_ylabel("share of the lesions found", fontsize=LABEL)
    title = "diameter at 512 x 512"
    axes.legend(fontsize=SMALL, frameon=False, title=title, title_fontsize=SMALL)
    return save_png(figure, picture)
