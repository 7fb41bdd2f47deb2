"""How a group looks in every picture: colour, line and marker, by its place in the list."""

from __future__ import annotations

from dataclasses import dataclass

from attnseg.reports.compare.study import ComparedRun, Study
from attnseg.reports.style import SERIES

_LINES = ("-", "--", ":", "-.")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Look:
    """A colour of the house's palette, a line style once the colours are used up, a marker."""

    colour: str
    line: str
    mark: str


def looks(study: Study) -> dict[str, Look]:
    """Group label -> how it is drawn."""
    return {group.label: look_at(index) for index, group in enumerate(study.groups)}


def look_at(index: int, *, dashed: bool = False) -> Look:
    """The look of the `index`-th of a list; `dashed`: where lines will lie on one another."""
    step = index if dashed else index // len(SERIES)
    return Look(
        SERIES[index % len(SERIES)], _LINES[step % len(_LINES)], _MARKS[index % len(_MARKS)]
    )


def state_mark(run: ComparedRun) -> str:
    """The marker at the end of an unfinished run's curve; none for a finished one."""
    return "" if run.record.finished else "X"
