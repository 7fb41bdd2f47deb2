"""Self-contained HTML pages, made from the files of a folder alone.

A page holds its pictures and styles, runs no script and asks no network.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnseg.common.errors import DataError
from attnseg.common.files import read_csv, write_json
from attnseg.reports.cases import CLASSES, classify_case
from attnseg.reports.charts import draw_case_charts
from attnseg.reports.curves import Phase, draw_curves, phases_of, read_rows, series
from attnseg.reports.diagnosis import Finding
from attnseg.reports.html import Picture, embed, render
from attnseg.reports.style import TARGETS, as_float, number
from attnseg.runs.ledger import Row
from attnseg.runs.patients import KEY as PATIENTS
from attnseg.runs.records import read_record

_LAST_EPOCHS = 5
_MOST_PICTURES = 6  # of validation cases; at about 200 kB each the page stays easy to mail
_LONG = 8  # items from which a list in a record is only counted
_PHASE_ROWS = (
    "weight/segmentation",
    "weight/attention",
    "weight/alignment",
    "train/loss/total",
    "val/loss/total",
    "val/attention_gt_overlap",
    "val/attention_gt_distance",
    "val/attention_seg_corr",
    "val/dice_positive",
)
_XRAY = {"same": "the DRR itself", "simulated": "simulated from the DRR"}


def write_run_report(run_dir: Path) -> Path:
    """Draw report/curves.png and write report/report.html of a run folder; note that it is there.

    Reads config.yaml, status.json, metrics.csv and report/overlays/*.png; what is not there is
    left out, so an unfinished or failed run has a page too.

    Returns:
        The page.

    Raises:
        DataError: there is no such folder, or metrics.csv is not a ledger.
    """
    if not run_dir.is_dir():
        raise DataError(f"{run_dir} is not a run folder: there is no such folder")
    record = read_record(run_dir)
    status = record.status
    rows = read_rows(run_dir / "metrics.csv")
    title = str(status.get("name") or run_dir.name)
    best = status.get("best") or {}
    config = run_dir / "config.yaml"
    pictures, omitted = _some_pictures(run_dir / "report" / "overlays")
    context: dict[str, Any] = {
        "title": title,
        "state": record.state,
        "reason": record.reason,
        "command": status.get("command"),
        "run_facts": _run_facts(status, best, rows),
        "data_facts": _flat(status.get("data") or {}),
        "rows": rows,
        "pictures": pictures,
        "omitted": omitted,
        "config_text": config.read_text() if config.is_file() else "not recorded",
    }
    if rows:
        drawn = draw_curves(run_dir / "metrics.csv", run_dir / "report" / "curves.png", title)
        context |= _ledger_context(rows, best) | {"curves": embed(drawn, "curves")}
    page = render("run.html.j2", context, record.folder.page)
    if status.get("report") == "pending":
        record.folder.update_status(report="written")
    return page


def write_analysis_report(output_dir: Path, findings: Sequence[Finding]) -> Path:
    """Draw cases.png and write analysis.html and findings.json of a folder that was measured.

    Reads metrics.json, cases.csv, froc.png and overlays/*.png there.

    Returns:
        The page.

    Raises:
        DataError: metrics.json is not there.
    """
    summary = _read_json(output_dir / "metrics.json")
    if not summary:
        raise DataError(f"{output_dir} has no metrics.json that can be read: nothing was measured")
    table = output_dir / "cases.csv"
    cases = read_csv(table) if table.is_file() else []
    split = summary.get("split")
    where = _where(split, summary.get("n_cases"), summary.get("n_positive"))
    worst_first = sorted((output_dir / "overlays").glob("*.png"), reverse=True)
    context: dict[str, Any] = {
        "title": f"Attention and segmentation: {where}",
        "findings": findings,
        "target_table": _target_table(where, {"reached": summary}),
        "pictures": [embed(path, path.stem) for path in worst_first],
        "summary_facts": _flat({k: v for k, v in summary.items() if k != PATIENTS}),
        "classes": _count_classes(cases),
        "charts": None,
        "froc": None,
    }
    if (froc := output_dir / "froc.png").is_file():
        context["froc"] = embed(froc, "froc")
    if any(not math.isnan(as_float(row.get("attention_gt_overlap"))) for row in cases):
        context["charts"] = embed(draw_case_charts(cases, output_dir / "cases.png"), "cases")
    write_json(output_dir / "findings.json", [_plain(vars(finding)) for finding in findings])
    return render("analysis.html.j2", context, output_dir / "analysis.html")


def _run_facts(
    status: Mapping[str, Any], best: Mapping[str, Any], rows: Sequence[Row]
) -> list[tuple[str, str]]:
    """What a reader wants to know of a run first; unknown things are left out."""
    reached = f"{number(best.get('value'))} in epoch {best.get('epoch')}" if best else None
    versions = status.get("versions") or {}
    facts = {
        "id": status.get("id"),
        f"best {best.get('metric', '')}": reached,
        "epochs in the ledger": len(rows),
        "started": _time(status.get("started")),
        "ended": _time(status.get("ended")),
        "machine": status.get("host"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _time(stamp: object) -> str:
    """ISO 8601 in UTC, as `status.json` has it, to the minute."""
    return str(stamp)[:16].replace("T", " ") + " UTC" if stamp else ""


def _ledger_context(rows: Sequence[Row], best: Mapping[str, Any]) -> dict[str, Any]:
    """The tables made from the ledger."""
    at_best = [row for row in rows if as_float(row["epoch"]) == as_float(best.get("epoch"))]
    measured = [row for row in rows if any(row.get(f"val/{name}") for name in TARGETS)]
    last = measured[-1] if measured else rows[-1]
    shown = {f"best: epoch {row['epoch']}": row for row in at_best}
    shown[f"last: epoch {last['epoch']}"] = last
    columns = {label: _of_split(row, "val/") for label, row in shown.items()}
    where = _where("validation", last.get("val/n_cases"), last.get("val/n_positive"))
    known = [name for name in _PHASE_ROWS if any(row.get(name) for row in rows)]
    phases, tail = phases_of(rows), rows[-_LAST_EPOCHS:]
    names = [name for name in rows[0] if name != "epoch"]
    names = [name for name in names if any(row.get(name) for row in tail)]
    return {
        "target_table": _target_table(where, columns),
        "phase_head": ("", *(f"{p.name} ({p.epochs})" for p in phases)),
        "phase_rows": [(name, *(_change(rows, p, name) for p in phases)) for name in known],
        "last_head": ("epoch", *(row["epoch"] for row in tail)),
        "last_rows": [(name, *(number(row.get(name), 4) for row in tail)) for name in names],
    }


def _change(rows: Sequence[Row], phase: Phase, name: str) -> str:
    """First and last known value of a column within a phase."""
    inside = [row for row in rows if phase.first <= as_float(row["epoch"]) <= phase.last]
    values = [number(value) for value in series(inside, name) if math.isfinite(value)]
    if not values:
        return "–"
    return values[0] if values[0] == values[-1] else f"{values[0]} → {values[-1]}"


def _target_table(where: str, columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Wanted against reached, for each of some named sets of metrics."""
    rows = []
    for target in TARGETS.values():
        values = [as_float(metrics.get(target.metric)) for metrics in columns.values()]
        cells = [
            {"text": number(value), "met": None if math.isnan(value) else target.met(value)}
            for value in values
        ]
        row = {"metric": target.metric, "meaning": target.meaning, "cells": cells}
        rows.append(row | {"wanted": target.aim})
    return {"where": where, "columns": list(columns), "rows": rows}


def _count_classes(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """How many cases are of each class, the commonest first."""
    counts = Counter(classify_case(row) for row in cases).most_common()
    return [(CLASSES[code], str(n), f"{100 * n / len(cases):.0f} %") for code, n in counts]


def _where(split: object, n_cases: object, n_positive: object) -> str:
    """Which cases the numbers are over."""
    name = {"val": "validation", "train": "training", "all": "whole"}.get(str(split), str(split))
    which = "the whole data set" if name == "whole" else f"{name} split"
    return f"{which}, {number(n_cases)} cases ({number(n_positive)} with a lesion)"


def _of_split(row: Row, prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): cell for key, cell in row.items() if key.startswith(prefix)}


def _flat(record: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """A nested record as (dotted name, text); long lists are counted, not written out."""
    pairs: list[tuple[str, str]] = []
    for key, value in record.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            pairs += _flat(value, name)
        elif isinstance(value, (list, tuple)):
            text = ", ".join(str(item) for item in value)
            pairs.append((name, text if len(value) < _LONG else f"{len(value)} items"))
        elif key == "xray":
            pairs.append(("X-ray pathway", _XRAY.get(str(value), str(value))))
        elif value is not None:
            pairs.append((name, number(value, 4) if isinstance(value, float) else str(value)))
    return pairs


def _some_pictures(folder: Path) -> tuple[list[Picture], int]:
    """The last picture and some evenly spaced earlier ones, in order; and how many are not."""
    paths = sorted(folder.glob("*.png"), key=_natural)
    step = max(1, math.ceil((len(paths) - 1) / (_MOST_PICTURES - 1)))
    chosen = paths[::-1][::step][::-1]
    names = [re.sub(r"\bepoch-0*(\d)", r"epoch \1", path.stem) for path in chosen]
    pictures = [embed(path, name) for path, name in zip(chosen, names, strict=True)]
    return pictures, len(paths) - len(chosen)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key under which epoch-9 comes before epoch-10."""
    parts = re.split(r"(\d+)", path.stem)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none that can be read."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    """The same without NaN and infinity, which JSON has not."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
