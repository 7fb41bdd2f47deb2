"""Per-case results of runs: what `attnseg evaluate` left in their folders, if it still holds."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnseg.common.files import read_csv
from attnseg.runs.records import RunRecord

CaseRow = Mapping[str, str]
_OWN = "as_trained"  # in metrics.json: on the run's own data, at its own threshold


@dataclass(frozen=True)
class Evaluation:
    """One run measured on one split.

    Attributes:
        folder: where the files are.
        summary: metrics.json.
        cases: rows of cases.csv by case id, as text.
    """

    folder: Path
    summary: Mapping[str, Any]
    cases: Mapping[str, CaseRow]

    @property
    def data(self) -> Mapping[str, Any]:
        """The data record: the source's, and `digest`."""
        record = self.summary.get("data")
        return record if isinstance(record, Mapping) else {}

    @property
    def digest(self) -> str | None:
        """Of the measured cases' content; None where it was not recorded."""
        return self.data.get("digest")

    @property
    def weights(self) -> list[str] | None:
        """Digests of the measured checkpoints' files; None where they were not recorded."""
        return self.summary.get("weights")

    @property
    def made_of(self) -> dict[str, Any]:
        """What figures and maps are of."""
        return {"weights": self.weights, "digest": self.digest}


def evaluation_folder(run: RunRecord, split: str) -> Path:
    """Where a run's results of a split are, or go: `attnseg evaluate`'s own place.

    A measurement on other data or at another threshold that a user left there is not touched:
    then it is a folder beside it.
    """
    data = run.config.get("data")
    source = data.get("name", "data") if isinstance(data, Mapping) else "data"
    folder = run.path / "evaluate" / f"{source}-{split}"
    if _read_summary(folder).get(_OWN) is False:
        return folder.with_name(f"{folder.name}-compare")
    return folder


def read_evaluation(
    run: RunRecord, split: str, folder: Path | None = None
) -> tuple[Evaluation | None, str]:
    """The run's results of a split, or None and why there are none that can be used.

    Args:
        run: whose they are.
        split: that was measured.
        folder: where they are, if not in `evaluation_folder`.
    """
    folder = folder or evaluation_folder(run, split)
    table, summary = folder / "cases.csv", _read_summary(folder)
    if not table.is_file() or not summary:
        return None, f"not measured on the {split} split"
    if "weights" not in summary and older_than_best(table, run):
        return None, f"measured on the {split} split before best.ckpt was written"
    if run.id and str(summary.get("run_id") or run.id) not in (run.id, *run.ids):
        return None, f"{folder} was measured with another run's checkpoint"
    if Path(str(summary.get("checkpoint", "best.ckpt"))).name != "best.ckpt":
        return None, f"{folder} was measured with another checkpoint than best.ckpt"
    try:
        cases = {row["case_id"]: row for row in read_csv(table)}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        return None, f"{table} cannot be read ({type(error).__name__})"
    if not cases or any(None in (*row, *row.values()) for row in cases.values()):
        return None, f"{table} is incomplete"
    return Evaluation(folder, summary, cases), ""


def older_than_best(path: Path, run: RunRecord) -> bool:
    """Whether a file was made before the run's best.ckpt; without one, it cannot be.

    That is for evaluations which do not know their weights: times lie in copies.
    """
    best = run.folder.best
    return best.is_file() and path.stat().st_mtime < best.stat().st_mtime


def _read_summary(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
