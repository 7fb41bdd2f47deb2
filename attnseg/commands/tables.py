"""Tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnseg.reports.compare.tables import Table


_WORDS = ("run", "sweep", "state", "value", "what")  # columns that hold no numbers


def print_table(table: Table) -> None:
    """Print a table with rich: the first column to the left, numbers to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    colours = {"good": "green", "bad": "red"}
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(table.head):
        left = index == 0 or heading in _WORDS
        shown.add_column(Text(heading), justify="left" if left else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell.text, style=colours.get(cell.kind, "")) for cell in row))
    console = Console()
    console.print(Text(table.title, style="bold"))
    console.print(shown)
    if table.foot:
        console.print(Text(table.foot, style="dim"))
