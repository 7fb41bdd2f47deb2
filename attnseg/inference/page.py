"""A page to leaf through predictions: made from a folder that `attnseg predict` wrote.

The pictures are inside the page; a small script leafs, blends and toggles. Without it the tables
still read, and every picture is in its case's folder.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnseg.inference.pictures import LAYERS
from attnseg.inference.summary import CASES, records_of
from attnseg.reports.html import render
from attnseg.reports.style import number


def write_predictions_page(out: Path, names: Sequence[str], *, n_most: int) -> Path:
    """Write index.html over the named cases; at most `n_most` are shown, the highest scores first.

    Args:
        out: the folder of `attnseg predict`.
        names: of the cases that have results.
        n_most: a case takes about 100 kB of the page.

    Returns:
        The page.
    """
    chosen: list[tuple[float, int, dict[str, Any]]] = []
    n_lesions = n_with = n_alone = 0
    for order, record in enumerate(records_of(out, names)):
        n_lesions += record["n_lesions"]
        n_with += record["n_lesions"] > 0
        n_alone += record["pathways"] == "xray_only"
        entry = (max(record["top_score"], record["max_probability"]), -order, record)
        if len(chosen) < n_most:
            heapq.heappush(chosen, entry)
        elif n_most:
            heapq.heappushpop(chosen, entry)
    chosen.sort(key=lambda entry: (-entry[0], -entry[1]))
    first = chosen[0][2] if chosen else next(records_of(out, names), {})
    context = {
        "title": f"Predictions: {len(names)} images, {n_lesions} lesions",
        "facts": _facts(first, len(names), n_with, n_alone),
        "cases": [_shown(out, record) for _, _, record in chosen],
        "omitted": len(names) - len(chosen),
    }
    return render("predictions.html.j2", context, out / "index.html")


def _facts(record: dict[str, Any], n: int, n_with: int, n_alone: int) -> list[tuple[str, str]]:
    passes = [record["tta"]] if record.get("tta", "none") != "none" else []
    passes += [f"{record['mc_dropout']} draws of dropout"] if record.get("mc_dropout") else []
    facts = {
        "images": str(n),
        "with a lesion": str(n_with),
        "X-ray alone for both pathways": str(n_alone) if n_alone else "",
        "threshold": number(record.get("threshold")),
        "checkpoint": str(record.get("checkpoint", "")),
        "test time": ", ".join(passes),
        "attnseg": str(record.get("attnseg", "")),
    }
    return [(name, text) for name, text in facts.items() if text]


def _shown(out: Path, record: dict[str, Any]) -> dict[str, Any]:
    """One case for the page's script, in plain types."""
    folder = out / CASES / record["case"] / "layers"
    layers = {}
    for name in LAYERS:
        path = folder / name
        if path.is_file():
            kind = "jpeg" if path.suffix == ".jpg" else "png"
            data = base64.b64encode(path.read_bytes()).decode()
            layers[path.stem] = f"data:image/{kind};base64,{data}"
    return {
        "name": record["case"],
        "layers": layers,
        "pathways": record["pathways_meaning"],
        "alone": record["pathways"] == "xray_only",
        "notes": record["notes"],
        "score": number(record["top_score"]) if record["lesions"] else "–",
        "lesions": [_lesion(lesion) for lesion in record["lesions"][:50]],
        "n_lesions": record["n_lesions"],
    }


def _lesion(lesion: dict[str, Any]) -> list[str]:
    """The cells of a lesion's row: number, score, place, size, attention, uncertainty."""
    known = lesion["row_mm"] is not None
    place = f"{lesion['row_px']:.0f}, {lesion['column_px']:.0f} px"
    size = f"{lesion['diameter_px']:.1f} px"
    if known:
        place += f" ({lesion['row_mm']:.0f}, {lesion['column_mm']:.0f} mm)"
        size += f" ({lesion['diameter_mm']:.1f} mm)"
    attention, std = lesion["mean_attention"], lesion["uncertainty_std"]
    return [
        str(lesion["lesion"]),
        number(lesion["score"]),
        place,
        size,
        number(attention),
        number(std),
    ]
