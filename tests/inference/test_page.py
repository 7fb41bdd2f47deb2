"""The page of predictions: one file, its pictures inside, the highest scores first."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

from attnseg.inference.page import write_predictions_page
from attnseg.inference.summary import CASES


def case(out: Path, name: str, score: float, **more: Any) -> str:
    """A case's folder as predict writes it."""
    folder = out / CASES / name
    (folder / "layers").mkdir(parents=True)
    for layer in ("xray.jpg", "probability.png", "outline.png"):
        Image.new("L", (8, 8)).save(folder / "layers" / layer)
    lesion = {
        "lesion": 1,
        "row_px": 3.0,
        "column_px": 4.0,
        "row_mm": 1.5,
        "column_mm": 2.0,
        "diameter_px": 5.0,
        "diameter_mm": 2.5,
        "score": score,
        "mean_attention": 0.5,
        "uncertainty_std": None,
    }
    record = {
        "case": name,
        "pathways": "xray_only",
        "pathways_meaning": "no DRR: the X-ray alone served both pathways",
        "notes": [],
        "lesions": [lesion] if score else [],
        "n_lesions": int(score > 0),
        "top_score": score,
        "max_probability": score,
        "threshold": 0.5,
        **more,
    }
    (folder / "result.json").write_text(json.dumps(record))
    return name


def shown(page: str) -> list[dict[str, Any]]:
    """What the page's script reads."""
    [text] = re.findall(r'<script type="application/json" id="cases">(.*?)</script>', page, re.S)
    return list(json.loads(text))


def test_the_highest_scores_come_first_and_the_rest_is_counted(tmp_path: Path) -> None:
    scores = [0.1, 0.9, 0.0, 0.5]
    names = [case(tmp_path, f"c{index}", score) for index, score in enumerate(scores)]
    page = write_predictions_page(tmp_path, names, n_most=2).read_text()
    assert [one["name"] for one in shown(page)] == ["c1", "c3"]
    assert "2 more with lower scores" in page
    assert "4 images, 3 lesions" in page
    assert "1.5" not in page or "mm" in page


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    page = write_predictions_page(tmp_path, [case(tmp_path, "a", 0.7)], n_most=5).read_text()
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!#|data:)', page)
    assert "http" not in page
    [one] = shown(page)
    assert set(one["layers"]) == {"xray", "probability", "outline"}
    assert all(uri.startswith("data:image/") for uri in one["layers"].values())
    assert "X-ray alone" in one["pathways"] and one["alone"]


def test_names_cannot_break_out(tmp_path: Path) -> None:
    bad = "</script><script>alert(1)</script>"
    name = case(tmp_path, "a", 0.7, notes=[bad], case="a")
    page = write_predictions_page(tmp_path, [name], n_most=5).read_text()
    assert bad not in page
    assert shown(page)[0]["notes"] == [bad]


def test_no_case_at_all_is_a_page_too(tmp_path: Path) -> None:
    page = write_predictions_page(tmp_path, [case(tmp_path, "a", 0.7)], n_most=0).read_text()
    assert "1 images" in page and "viewer" not in page.split("<script")[0]
