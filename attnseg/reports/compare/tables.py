"""The tables of a comparison, in cells that every output (terminal, CSV, Markdown, HTML) takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnseg.common.files import csv_text
from attnseg.config.measures import higher_is_better
from attnseg.reports.compare.pairing import Comparison
from attnseg.reports.compare.study import ComparedRun, Group, Study
from attnseg.reports.style import number


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, what a click on the column's head sorts by, and its CSS class."""

    text: str
    sort: float | str = ""
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a title and a line below it."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    foot: str = ""


def group_table(study: Study, metrics: Sequence[str]) -> Table:
    """A row a group: what differs, and every metric's mean and spread over seeds."""
    shown = [name for name in metrics if any(_known(g, name) for g in study.groups)]
    head = ("configuration", "seeds", *(_headed(n, study.higher_is_better(n)) for n in shown))
    rows = []
    for group in study.groups:
        seeds = [str(run.record.seed) for run in group.counted]
        of = "" if len(seeds) == len(group.runs) else f" of {len(group.runs)} runs"
        cells = [Cell(group.label, group.label), Cell(f"{len(seeds)}{of}", float(len(seeds)))]
        rows.append((*cells, *(_mean_cell(group, name) for name in shown)))
    foot = f"{study.split} split; mean ± sample standard deviation over the finished runs (seeds)"
    return Table("Configurations", head, rows, foot)


def run_table(study: Study, metrics: Sequence[str]) -> Table:
    """A row a run: its state as it is, what differs, how far it came, its metrics."""
    shown = [name for name in metrics if any(_finite(r.metric(name)) for _, r in study.runs)]
    head = ("run", "state", *study.keys.values(), "seed", "epochs", "best while training", *shown)
    rows = []
    for group, run in study.runs:
        record = run.record
        differing = (Cell(value, _sortable(value)) for value in group.values.values())
        epochs = f"{record.epoch}/{'?' if record.total is None else record.total}"
        cells = (
            Cell(record.name, record.name),
            Cell(_state(run), record.state, "good" if not run.left_out else "bad"),
            *differing,
            Cell(_seed(run), _sortable(_seed(run))),
            Cell(epochs, float(record.epoch)),
            _best_cell(run),
            *(Cell(mean_words(run.metric(name), math.nan), run.metric(name)) for name in shown),
        )
        rows.append(cells)
    return Table("Runs", head, rows, f"metrics on the {study.split} split")


def pair_table(comparisons: Sequence[Comparison], confidence: float, more: str = "") -> Table:
    """A row a group and metric: difference to the baseline, interval, test."""
    level = f"{100 * confidence:g} % interval"
    head: tuple[str, ...] = ("configuration", "metric", "difference", level, "p", "p (Holm)")
    head += ("cases", "patients", "seeds", "against", "note")
    rows = [_pair_row(one) for one in comparisons]
    tests = sum(math.isfinite(one.p) for one in comparisons)
    foot = (
        "difference: configuration minus baseline, mean over cases; interval: percentile "
        "bootstrap over patients, paired by case; p: Wilcoxon's signed-rank test over patients "
        f"(means of their cases), Holm-corrected over the {tests} tests here; seeds: averaged case "
        f"by case{more}"
    )
    return Table("Paired differences", head, rows, foot)


def runs_csv(study: Study, metrics: Sequence[str]) -> str:
    """compare.csv: a row a run, numbers in full precision."""
    rows = []
    for group, run in study.runs:
        record = run.record
        row: dict[str, Any] = {
            "run": group.label,
            "name": record.name,
            "id": record.id,
            "folder": str(record.path),
            "state": record.state,
            "left_out": run.left_out,
            "seed": record.seed,
            "epoch": record.epoch,
            "total_epochs": record.total,
        }
        row |= {key: group.values[key] for key in study.keys}
        row |= {"best_metric": record.best.get("metric"), "best_value": record.best.get("value")}
        row |= {"best_epoch": record.best.get("epoch"), "split": study.split}
        row |= {name: run.summary.get(name) for name in ("n_cases", "n_positive")}
        rows.append(row | {name: _or_blank(run.metric(name)) for name in metrics})
    return to_csv(rows)


def groups_csv(study: Study, metrics: Sequence[str]) -> str:
    """groups.csv: a row a group, mean and standard deviation of each metric over its seeds."""
    rows = []
    for group in study.groups:
        row: dict[str, Any] = {"run": group.label, "n_seeds": len(group.counted)}
        row |= {"n_runs": len(group.runs), **group.values}
        for name in metrics:
            middle, spread = group.statistic(name)
            row |= {f"{name}_mean": _or_blank(middle), f"{name}_sd": _or_blank(spread)}
        rows.append(row)
    return to_csv(rows)


def pairs_csv(comparisons: Sequence[Comparison]) -> str:
    """paired.csv: a row a comparison."""
    rows = []
    for one in comparisons:
        row = {key: _or_blank(value) for key, value in vars(one).items() if key != "n_seeds"}
        rows.append(row | {"n_seeds": one.n_seeds[0], "n_seeds_baseline": one.n_seeds[1]})
    return to_csv(rows) if rows else "group,baseline,metric,difference\n"


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Dicts with the same keys as CSV."""
    return csv_text(list(rows[0]), rows)


def to_markdown(table: Table) -> str:
    """A table as GitHub shows it."""
    lines = [_line(table.head), _line(["---"] * len(table.head))]
    lines += [_line([cell.text for cell in row]) for row in table.rows]
    return "\n".join([f"## {table.title}", "", *lines, "", table.foot, ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _pair_row(one: Comparison) -> tuple[Cell, ...]:
    known = [v for v in (one.difference, one.low, one.high) if _finite(v)]
    decimals = decimals_for(known)
    low, high = (_signed(value, decimals) for value in (one.low, one.high))
    ours, theirs = one.n_seeds
    return (
        Cell(one.group, one.group),
        Cell(_headed(one.metric, higher_is_better(one.metric)) or "–", one.metric),
        Cell(_signed(one.difference, decimals), one.difference, _verdict(one)),
        Cell(f"{low} … {high}" if _finite(one.low) else "–", one.low),
        Cell(_p(one.p), one.p),
        Cell(_p(one.p_holm), one.p_holm),
        Cell(str(one.n_cases), float(one.n_cases)),
        Cell(str(one.n_patients), float(one.n_patients)),
        Cell(str(ours) if ours == theirs else f"{ours} / {theirs}", float(ours)),
        Cell(one.baseline, one.baseline, "label"),
        Cell(one.note, one.note, "wide"),
    )


def _verdict(one: Comparison) -> str:
    """Coloured only where interval and test agree that there is a difference."""
    if not _finite(one.p_holm) or one.p_holm >= 0.05 or one.low <= 0.0 <= one.high:
        return ""
    good = higher_is_better(one.metric)
    if good is None:
        return ""
    return "good" if (one.difference > 0) == good else "bad"


def _mean_cell(group: Group, name: str) -> Cell:
    return Cell(mean_words(*group.statistic(name)), group.statistic(name)[0])


def mean_words(middle: float, spread: float) -> str:
    """Mean ± standard deviation in the same decimals; the mean alone where there is no spread."""
    decimals = decimals_for([middle] if _finite(middle) else [])
    words = fixed(middle, decimals)
    return f"{words} ± {fixed(spread, decimals)}" if _finite(spread) else words


def decimals_for(values: Sequence[float]) -> int:
    """Decimals that all of some numbers are written in: 3 for shares, 1 for pixels."""
    return 1 if any(abs(value) >= 10 for value in values) else 3


def fixed(value: float, decimals: int) -> str:
    """A number in so many decimals; a dash for what is not known."""
    return f"{value:.{decimals}f}" if _finite(value) else "–"


def _best_cell(run: ComparedRun) -> Cell:
    best = run.record.best
    value = best.get("value")
    if not isinstance(value, (int, float)):
        return Cell("–", math.nan)
    name = str(best.get("metric", "")).removeprefix("val/")
    return Cell(f"{name} {number(value)} in epoch {best.get('epoch')}", float(value))


def _state(run: ComparedRun) -> str:
    if not run.left_out:
        return run.record.state
    return (
        run.left_out if run.left_out.startswith(run.record.state) else f"left out: {run.left_out}"
    )


def _seed(run: ComparedRun) -> str:
    seed = run.record.seed if run.record.seed is not None else run.record.varied.get("seed")
    return "–" if seed is None else str(seed)


def _headed(name: str, good: bool | None) -> str:
    """A metric's name, and an arrow towards its good end."""
    return name if good is None else f"{name} {'↑' if good else '↓'}"


def _signed(value: float, decimals: int) -> str:
    words = fixed(value, decimals)
    return f"+{words}" if _finite(value) and value > 0 else words


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else number(value, 2)


def _known(group: Group, name: str) -> bool:
    return any(_finite(run.metric(name)) for run in group.runs)


def _sortable(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _finite(value: float) -> bool:
    return math.isfinite(value)


def _or_blank(value: object) -> object:
    return "" if isinstance(value, float) and not math.isfinite(value) else value
