"""Everything a comparison leaves behind: tables, pictures and compare.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnseg.common.files import write_text
from attnseg.reports.compare.courses import draw_metric_curves, draw_schedules
from attnseg.reports.compare.heatmap import draw_heatmap
from attnseg.reports.compare.pairing import Comparison
from attnseg.reports.compare.pictures import draw_cases
from attnseg.reports.compare.scatter import draw_scatter
from attnseg.reports.compare.study import Study
from attnseg.reports.compare.tables import (
    Table,
    group_table,
    groups_csv,
    pair_table,
    pairs_csv,
    run_table,
    runs_csv,
    to_markdown,
)
from attnseg.reports.html import embed, render

_CAPTIONS = {
    "curves": (
        "Curves",
        "Thin: a run; thick: a mean over seeds; cross: an unfinished run.",
    ),
    "schedules": ("Loss weights", "What the schedules ask for, epoch by epoch."),
    "scatter": ("Attention against segmentation", "Dotted: the values wanted."),
    "heatmap": ("Two keys", "Mean over the runs of a cell, ± standard deviation (runs)."),
    "comparison": ("The same cases side by side", "A configuration's run with the lowest seed."),
}


@dataclass(frozen=True)
class Report:
    """What to write.

    Attributes:
        title: of the page.
        metrics: names of the run-level metrics of the tables.
        metric: of the heat map.
        confidence: of the intervals.
        heat: the two keys of the heat map; None: none.
        case_ids: shown side by side.
        command: said at the end of the page.
    """

    title: str
    metrics: Sequence[str]
    metric: str
    confidence: float = 0.95
    heat: tuple[str, str] | None = None
    case_ids: Sequence[str] = field(default_factory=list)
    command: str = ""


def write_comparison(
    study: Study, comparisons: Sequence[Comparison], report: Report, folder: Path
) -> Path:
    """Write the CSVs, the pictures, compare.md and compare.html into a folder.

    Pictures of an earlier comparison in the same folder are removed first.

    Returns:
        The page.
    """
    for name in _CAPTIONS:
        for old in (folder / f"{name}.png", *folder.glob(f"{name}-[0-9]*.png")):
            old.unlink(missing_ok=True)
    pictures = _draw(study, report, folder)
    write_text(folder / "compare.csv", runs_csv(study, report.metrics))
    write_text(folder / "groups.csv", groups_csv(study, report.metrics))
    write_text(folder / "paired.csv", pairs_csv(comparisons))
    tables = tables_of(study, comparisons, report)
    write_text(folder / "compare.md", _markdown(study, tables, pictures, report))
    context: dict[str, Any] = {
        "title": report.title,
        "intro": intro(study),
        "notes": study.notes,
        "tables": tables,
        "pictures": [
            (*_CAPTIONS[name], name, [embed(path, path.stem) for path in paths])
            for name, paths in pictures.items()
        ],
        "command": report.command,
    }
    return render("compare.html.j2", context, folder / "compare.html")


def tables_of(study: Study, comparisons: Sequence[Comparison], report: Report) -> list[Table]:
    """Configurations, paired differences (where there are any), runs."""
    tables = [group_table(study, report.metrics)]
    if comparisons:
        tables.append(pair_table(comparisons, report.confidence))
    return [*tables, run_table(study, report.metrics)]


def intro(study: Study) -> str:
    """What is compared, in one line."""
    runs = [run for _, run in study.runs]
    counted = sum(not run.left_out for run in runs)
    measured = next((r.evaluation for r in runs if r.evaluation and not r.left_out), None)
    words = f"{len(runs)} runs of {len(study.groups)} configurations, {counted} of them counted"
    if measured is None:
        return f"{words}; {study.split} split, not measured case by case."
    n_patients = len({row.get("patient_id") or key for key, row in measured.cases.items()})
    positive = measured.summary.get("n_positive")
    cases = f"{len(measured.cases)} cases of {n_patients} patients"
    return f"{words}; {study.split} split: {cases}, {positive} with a lesion."


def _draw(study: Study, report: Report, folder: Path) -> dict[str, list[Path]]:
    """The pictures that there is something to draw in."""
    heat = report.heat and draw_heatmap(study, report.heat, report.metric, folder / "heatmap.png")
    drawn: dict[str, list[Path | None]] = {
        "heatmap": [heat or None],
        "curves": [draw_metric_curves(study, report.metrics, folder / "curves.png")],
        "schedules": [draw_schedules(study, folder / "schedules.png")],
        "scatter": [draw_scatter(study, folder / "scatter.png")],
        "comparison": [*draw_cases(study, report.case_ids, folder)],
    }
    known = {name: [path for path in paths if path] for name, paths in drawn.items()}
    return {name: paths for name, paths in known.items() if paths}


def _markdown(
    study: Study, tables: Sequence[Table], pictures: dict[str, list[Path]], report: Report
) -> str:
    lines = [f"# {report.title}", "", intro(study), ""]
    lines += [*(f"- {note}" for note in study.notes), ""] if study.notes else []
    lines += [to_markdown(table) for table in tables]
    for name, paths in pictures.items():
        lines += [f"## {_CAPTIONS[name][0]}", ""]
        lines += [f"![{_CAPTIONS[name][0]}]({path.name})" for path in paths] + [""]
    if report.command:
        lines += [f"Made by `{report.command}`.", ""]
    return "\n".join(lines)
