"""A comparison in a terminal: configurations get numbers, so that 80 columns are enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnseg.commands.tables import print_table

if TYPE_CHECKING:
    from attnseg.reports.compare.pairing import Comparison
    from attnseg.reports.compare.study import Study

_METRIC, _VALUE = 26, 17  # letters a metric's name and a mean ± sd take
_MOST_PAIRS = 24  # rows of paired differences; more are in the files


def print_study(study: Study, comparisons: Sequence[Comparison], metrics: Sequence[str]) -> None:
    """Print configurations, metrics, paired differences, runs and notes."""
    from rich.console import Console

    places = {group.label: str(n) for n, group in enumerate(study.groups, start=1)}
    console = Console()
    for label, place in places.items():
        console.print(f"[bold]{place:>3}[/bold]  {_plain(label)}", highlight=False)
    per_table = max(1, (console.width - _METRIC) // _VALUE)
    for start in range(0, len(study.groups), per_table):
        _print_metrics(study, metrics, start, start + per_table)
    _print_pairs(comparisons, places)
    _print_runs(study, places)
    for note in study.notes:
        console.print(f"[bold]note:[/bold] {_plain(note)}", highlight=False)


def _print_metrics(study: Study, metrics: Sequence[str], start: int, stop: int) -> None:
    from attnseg.reports.compare.tables import Cell, Table, group_table

    full = group_table(study, metrics)
    part = range(start, min(stop, len(study.groups)))
    head = ("mean ± sd over seeds", *(str(index + 1) for index in part))
    rows = [
        (Cell(name), *(full.rows[index][column] for index in part))
        for column, name in enumerate(full.head)
        if column
    ]
    print_table(Table(f"{study.split} split", head, rows))


def _print_pairs(comparisons: Sequence[Comparison], places: dict[str, str]) -> None:
    from attnseg.reports.compare.tables import Cell, Table, pair_table

    known = [one for one in comparisons if one.n_cases]  # the rest is in the notes and the files
    shown = known[:_MOST_PAIRS]
    if not shown:
        return
    more = len(known) - len(shown)
    rows: list[tuple[Cell, ...]] = []
    for one, cells in zip(shown, pair_table(shown, 0.95).rows, strict=True):
        pair = f"{places[one.group]} - {places[one.baseline]}"
        words = f"{pair}  {cells[1].text}" + (" *" if one.note else "")
        interval = Cell(cells[3].text.replace(" … ", "…"))
        rows.append((Cell(words), cells[2], interval, cells[5], cells[7]))
    head = ("", "difference", "interval", "p (Holm)", "patients")
    remarks = list(dict.fromkeys(one.note for one in shown if one.note))
    foot = "\n".join(f"* {remark}" for remark in remarks)
    foot += f"\n{more} more in paired.csv" if more else ""
    print_table(Table("Paired differences to the baseline", head, rows, foot.strip()))


def _print_runs(study: Study, places: dict[str, str]) -> None:
    from attnseg.reports.compare.tables import Cell, Table
    from attnseg.reports.style import number

    rows: list[tuple[Cell, ...]] = []
    for group, run in study.runs:
        record = run.record
        rows.append(
            (
                Cell(places[group.label]),
                Cell(str("–" if record.seed is None else record.seed)),
                Cell(record.id or record.name),
                Cell(record.state, kind="bad" if run.left_out else "good"),
                Cell(f"{record.epoch}/{'?' if record.total is None else record.total}"),
                Cell(number(record.best.get("value"))),
            )
        )
    head = ("", "seed", "id", "state", "epochs", "best while training")
    print_table(Table("Runs", head, rows))


def _plain(text: str) -> str:
    """The text with what rich would take as a style escaped."""
    from rich.markup import escape

    return escape(text)
