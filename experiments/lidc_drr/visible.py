"""What is found of the lesions, by what can be seen of them?

    python experiments/lidc_data/study.py --root DRRS --lesions LESIONS.csv --output /tmp/study
    attnseg evaluate checkpoint=RUN data.root=DRRS data.size=512 split=val output_dir=OUT
    python experiments/lidc_drr/visible.py LESIONS.csv OUT [OUT...] [--diameter 14]

Printed is, for groups of lesions, the share that is found at 1 false positive an image and the mean
of the shares at 1, 2, 4 and 8, as the FROC curve counts them (`attnseg.metrics.lesions`). Each
evaluation has thresholds of its own; their lesions are pooled. The ring filter is the study's: it
is told a lesion's exact outline, and compares it with random places of the image.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from attnseg.common.files import read_csv
from attnseg.evaluation.lesion_tables import CANDIDATES, LESIONS
from attnseg.metrics.froc import froc_sensitivity

RATES = (1.0, 2.0, 4.0, 8.0)

GROUPS = {
    "diameter, px": ("diameter_px", (14, 20, 30, math.inf)),
    "subtlety (5: obvious to the readers of the CT)": ("subtlety", (1, 4, 4.75, math.inf)),
    "texture (1: ground glass, 5: solid)": ("texture", (1, 4, math.inf)),
    "share of random places that the ring filter puts behind it": (
        "beats",
        (0, 0.5, 0.9, math.inf),
    ),
}


@dataclass(frozen=True)
class Lesion:
    """What the study knows of a lesion, and whether it is found at each of `RATES`."""

    known: dict[str, float]
    found: tuple[bool, ...]


def lesions_of(evaluation: Path, studied: dict[str, list[dict[str, str]]]) -> list[Lesion]:
    """The lesions of an evaluation, joined with the study's, which counts them in the same order.

    Raises:
        SystemExit: the study has other lesions of a case.
    """
    n_images = json.loads((evaluation / "metrics.json").read_text())["n_cases"]
    candidates = read_csv(evaluation / CANDIDATES)
    wrong = np.array([r["score"] for r in candidates if not r["lesions"]], dtype=np.float32)
    lesions = []
    for row in read_csv(evaluation / LESIONS):
        rows = studied.get(row["case_id"], [])
        number = int(row["lesion"]) - 1
        known = rows[number] if number < len(rows) else {}
        if known.get("n_pixels") != row["n_pixels"]:
            raise SystemExit(
                f"{evaluation}: lesion {row['lesion']} of {row['case_id']} is not the study's; "
                "evaluate on these cases with data.size=512"
            )
        score = np.array([row["score"] or -1], dtype=np.float32)
        found = tuple(one == 1.0 for one in froc_sensitivity(score, wrong, n_images, RATES))
        numbers = {name: float(value or "nan") for name, value in known.items() if name != "case"}
        lesions.append(Lesion(numbers, found))
    return lesions


def table(lesions: Sequence[Lesion]) -> list[str]:
    """Lines of the table, in Markdown."""
    lines = ["| | lesions | found at 1 | mean of 1, 2, 4, 8 |", "|---|---|---|---|"]
    lines.append(_row("all", lesions))
    for title, (key, limits) in GROUPS.items():
        for low, high in pairwise(limits):
            chosen = [one for one in lesions if low <= one.known.get(key, math.nan) < high]
            until = f" to {high:g}" if high != limits[-1] else " and more"
            if chosen:
                lines.append(_row(f"{title}: {low:g}{until}", chosen))
    return lines


def _row(name: str, lesions: Sequence[Lesion]) -> str:
    found = np.array([one.found for one in lesions])
    return f"| {name} | {len(lesions)} | {found[:, 0].mean():.2f} | {found.mean():.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="what study.py --lesions wrote")
    parser.add_argument("evaluations", type=Path, nargs="+", help="folders of attnseg evaluate")
    parser.add_argument(
        "--diameter", type=float, default=14.0, help="px: smaller ones are left out"
    )
    options = parser.parse_args()
    studied: dict[str, list[dict[str, str]]] = {}
    for row in read_csv(options.study):
        studied.setdefault(row["case"], []).append(row)
    every = [one for folder in options.evaluations for one in lesions_of(folder, studied)]
    large = [one for one in every if one.known["diameter_px"] >= options.diameter]
    if not large:
        raise SystemExit(f"none of the {len(every)} lesions is of {options.diameter:g} px or more")
    print("\n".join(table(large)))


if __name__ == "__main__":
    main()
