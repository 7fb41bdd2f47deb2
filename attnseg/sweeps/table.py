"""What a sweep shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from attnseg.build import build_schedule
from attnseg.runs.states import TROUBLED, State
from attnseg.sweeps.record import Job, SweepRecord

_EVERY_S = 0.5
_COLOURS: dict[State, str] = {  # what matters most first
    "running": "yellow",
    "failed": "red",
    "invalid": "red",
    "changed": "red",
    "unknown": "red",
    "gone": "red",
    "crashed": "magenta",
    "interrupted": "magenta",
    "partial": "cyan",
    "pruned": "cyan",
    "finished": "green",
    "pending": "dim",
}
_ACTIVE = tuple(_COLOURS)


class Watcher:
    """Reads the run folders twice a second, tells what has changed, and keeps sweep.json.

    Reading rather than being told works the same with every launcher, on other machines too.
    """

    def __init__(self, record: SweepRecord, console: Console | None = None) -> None:
        self.record = record
        self.console = console or Console()
        self.states: dict[int, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._live: Live | None = None

    def __enter__(self) -> Watcher:
        rows = self.record.write()
        self.states = {row["index"]: row["state"] for row in rows}
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stop.set()
        self._thread.join()
        self.refresh()
        if self._live is not None:
            self._live.stop()

    def refresh(self) -> None:
        """Look at every job once; one line for each that has ended, with the reason."""
        states = {job.index: self.record.state(job) for job in self.record.jobs}
        changed = {i for i, state in states.items() if self.states.get(i) != state}
        if changed:
            rows = self.record.write()
            done = sum(self.record.is_done(job) for job in self.record.jobs)
            for row in rows:
                if row["index"] in changed:
                    self._tell(row, f"[{done}/{len(rows)}]")
            self.states = {row["index"]: row["state"] for row in rows}
        if self._live is not None:
            table = live_table(self.record, self.console.height - 6)
            self._live.update(table, refresh=True)

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self.refresh()

    def _tell(self, row: dict[str, Any], progress: str) -> None:
        state = row["state"]
        if state == "pending" or (state == "running" and self._live is not None):
            return
        text = f"{progress} {state}: {row['name']}"
        if state not in ("finished", "running") and row["reason"]:
            text += f": {str(row['reason']).splitlines()[0]}"
            trace = self.record.path / row["run_dir"] / "traceback.txt" if row["run_dir"] else None
            if state == "failed" and trace is not None and trace.exists():
                text += f" ({trace.resolve()})"
        self.console.print(
            text, style=_COLOURS[state], markup=False, highlight=False, soft_wrap=True
        )


def live_table(record: SweepRecord, room: int) -> Table:
    """The jobs that matter most now, as many as there is room for."""
    jobs = [(record.state(job), job) for job in record.jobs]
    counts = Counter(state for state, _ in jobs)
    ordered = sorted(counts, key=_ACTIVE.index)
    title = ", ".join(f"{counts[state]} {state}" for state in ordered)
    table = Table(title=f"{record.name}: {title}", title_justify="left")
    for column in ("run", "state", "epoch", "best", "reason"):
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    jobs.sort(key=lambda pair: (_ACTIVE.index(pair[0]), pair[1].index))
    room = max(room, 3)
    for state, job in jobs[:room]:
        table.add_row(*_cells(job, state), style=_COLOURS[state])
    if len(jobs) > room:
        table.add_row(f"and {len(jobs) - room} more", "", "", "", "", style="dim")
    return table


def _cells(job: Job, state: State) -> Sequence[str]:
    if job.config is None:
        return job.name, state, "", "", job.problem.splitlines()[0]
    status = job.folder.read_status()
    best = status.get("best") or {}
    value = best.get("value")
    shown = f"{best['metric'].removeprefix('val/')} {value:.4f}" if value is not None else ""
    reason = str(status.get("reason") or "") if state in TROUBLED else ""
    total = build_schedule(job.config.schedule).total_epochs
    epochs = f"{status['epoch']}/{total}" if "epoch" in status else ""
    return job.name, state, epochs, shown, reason.split("\n", 1)[0]
