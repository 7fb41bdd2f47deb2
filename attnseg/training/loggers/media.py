"""What W&B shows beside curves, kept in the run folder so that it can be sent later as well.

`report/overlays/epoch-0010.npz` beside the drawing of the same name; `report/cases.csv`, the
cases of the best validation; `report/steps.jsonl`, the losses of single steps.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg.common.files import csv_text, may_write, read_csv, write_atomically, write_text
from attnseg.reports.overlays import OverlayCase
from attnseg.reports.style import HEAT
from attnseg.runs.folder import RunFolder

Array = npt.NDArray[np.uint8]

PREDICTION, TRUTH = 1, 2
"""Class ids of the mask layers: two, so that the layers get two colours."""

_FIRST = (
    "case_id",
    "patient_id",
    "epoch",
    "threshold",
    "n_mask_pixels",
    "dice",
    "attention_gt_overlap",
    "attention_gt_distance",
    "attention_seg_corr",
    "seg_gt_overlap",
    "pointing_game",
)


@dataclass(frozen=True)
class MediaCase:
    """One case as W&B gets it; all arrays (H, W) uint8, padding cropped.

    Attributes:
        case_id: the caption.
        xray, drr: grey, 0 to 255.
        attention: 0 to 255 for 0 to 1.
        prediction, truth: 0 or 1.
    """

    case_id: str
    xray: Array
    drr: Array
    attention: Array
    prediction: Array
    truth: Array

    @classmethod
    def of(cls, case: OverlayCase) -> MediaCase:
        """Of a case to draw."""
        shown = case.cropped()
        return cls(
            case_id=shown.case_id,
            xray=_grey(shown.xray),
            drr=_grey(shown.drr),
            attention=_bytes(np.nan_to_num(shown.attention)),
            prediction=shown.prediction.astype(np.uint8),
            truth=(shown.mask > 0).astype(np.uint8),
        )


_MAPS = ("xray", "drr", "attention", "prediction", "truth")


def save_cases(path: Path, cases: Sequence[MediaCase]) -> None:
    """Write cases as a compressed .npz, whole or not at all."""
    arrays: dict[str, Any] = {"case_ids": np.array([case.case_id for case in cases])}
    for index, case in enumerate(cases):
        arrays |= {f"{index}_{name}": getattr(case, name) for name in _MAPS}
    write_atomically(path, lambda stream: np.savez_compressed(stream, **arrays))


def load_cases(path: Path) -> list[MediaCase]:
    """Read them back.

    Raises:
        OSError, ValueError, KeyError: not such a file.
    """
    with np.load(path, allow_pickle=False) as archive:
        return [
            MediaCase(str(case_id), **{name: archive[f"{index}_{name}"] for name in _MAPS})
            for index, case_id in enumerate(archive["case_ids"])
        ]


def epochs_with_pictures(folder: RunFolder) -> dict[int, Path]:
    """The drawing of each epoch that has one, in order."""
    found = {}
    for path in sorted((folder.report / "overlays").glob("epoch-*.png")):
        if match := re.fullmatch(r"epoch-(\d+)", path.stem):
            found[int(match.group(1))] = path
    return found


def wandb_images(cases: Sequence[MediaCase]) -> dict[str, list[Any]]:
    """The X-ray, and the DRR under the attention's heat, each with two layers to toggle."""
    import wandb

    def image(case: MediaCase, pixels: Array) -> Any:
        masks = {
            "prediction": {
                "mask_data": case.prediction * np.uint8(PREDICTION),
                "class_labels": {PREDICTION: "predicted lesion"},
            },
            "ground_truth": {
                "mask_data": case.truth * np.uint8(TRUTH),
                "class_labels": {TRUTH: "true lesion"},
            },
        }
        return wandb.Image(pixels, caption=case.case_id, masks=masks)

    return {
        "overlays/xray": [image(case, case.xray) for case in cases],
        "overlays/attention": [image(case, _heat(case)) for case in cases],
    }


def cases_csv(folder: RunFolder) -> Path:
    """Where the cases of the best validation are."""
    return folder.report / "cases.csv"


def write_cases(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a row a case; an undefined value is empty."""
    names = {name for row in rows for name in row}
    columns = [name for name in _FIRST if name in names] + sorted(names - set(_FIRST))
    blanked = ({key: _blank_if_undefined(v) for key, v in row.items()} for row in rows)
    write_text(path, csv_text(columns, blanked))


def wandb_table(path: Path, drawn: Sequence[MediaCase] = ()) -> Any:
    """The cases as a `wandb.Table`: numbers, and pictures of those that were drawn."""
    import wandb

    rows = read_csv(path)
    data: list[list[Any]] = [
        [value if name.endswith("_id") else _number(value) for name, value in row.items()]
        for row in rows
    ]
    columns = list(rows[0]) if rows else []
    if drawn and rows:
        for name, images in wandb_images(drawn).items():
            of_case = dict(zip((case.case_id for case in drawn), images, strict=True))
            columns.append(name)
            for row, values in zip(rows, data, strict=True):
                values.append(of_case.get(row["case_id"]))
    return wandb.Table(columns=columns, data=data)


def newest_cases(folder: RunFolder) -> list[MediaCase]:
    """What was drawn last; nothing where no arrays were kept."""
    for picture in reversed(epochs_with_pictures(folder).values()):
        with suppress(OSError, ValueError, KeyError):
            return load_cases(picture.with_suffix(".npz"))
    return []


def froc_table(row: Mapping[str, float]) -> Any | None:
    """The FROC curve of an epoch as a `wandb.Table`; None where none was measured."""
    import wandb

    head = "val/froc_sensitivity_at_"
    data = [[float(k.removeprefix(head)), v] for k, v in row.items() if k.startswith(head)]
    columns = ["false positives per image", "sensitivity"]
    return wandb.Table(columns=columns, data=sorted(data)) if data else None


def evaluations_of(folder: RunFolder) -> list[Path]:
    """The evaluations that lie in a run folder."""
    return sorted(path.parent for path in (folder.path / "evaluate").glob("*/metrics.json"))


def wandb_evaluation(results: Path) -> dict[str, Any]:
    """What W&B's summary gets of an evaluation: its figures, its cases, its FROC curve."""
    import wandb

    found = json.loads((results / "metrics.json").read_text())
    head = f"evaluate/{results.name}"
    numbers = (int, float)
    told: dict[str, Any] = {
        f"{head}/{key}": value
        for key, value in found.items()
        if isinstance(value, numbers) and not isinstance(value, bool)
    }
    if (results / "froc.png").is_file():
        told[f"{head}/froc"] = wandb.Image(str(results / "froc.png"))
    if (results / "cases.csv").is_file():
        told[f"{head}/cases"] = _any_table(results / "cases.csv")
    return told


def _any_table(path: Path) -> Any:
    """A CSV as it stands; a column of which every cell is a number (or empty) holds numbers."""
    import wandb

    rows = read_csv(path)
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    for name, values in columns.items():
        with suppress(ValueError):
            if not name.endswith("_id"):
                columns[name] = [_number(value) for value in values]
    data = [list(values) for values in zip(*columns.values(), strict=True)]
    return wandb.Table(columns=list(columns), data=data)


def steps_file(folder: RunFolder) -> Path:
    """Where the losses of single steps are."""
    return folder.report / "steps.jsonl"


def append_step(path: Path, step: int, values: Mapping[str, float]) -> None:
    """Add the losses of one step; a line that a kill cuts in half is skipped by the reader."""
    may_write(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    finite = {key: value for key, value in values.items() if math.isfinite(value)}
    with path.open("a") as stream:
        stream.write(json.dumps({"step": step, **finite}) + "\n")


def read_steps(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and losses, in order, each step once: the latest of what a resume has repeated."""
    found: dict[int, dict[str, float]] = {}
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    for line in lines:
        try:
            values = json.loads(line)
            found[int(values.pop("step"))] = values
        except (ValueError, KeyError, AttributeError):
            continue
    yield from sorted(found.items())


def _number(text: str) -> float | None:
    return float(text) if text else None


def _blank_if_undefined(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _bytes(image: npt.NDArray[Any]) -> Array:
    return np.asarray((np.clip(image, 0.0, 1.0) * 255).round(), dtype=np.uint8)


def _grey(image: npt.NDArray[Any]) -> Array:
    """Between the 1st and the 99th percentile."""
    clean = np.nan_to_num(image.astype(np.float64))
    low, high = np.percentile(clean, (1, 99))
    return _bytes((clean - low) / max(high - low, 1e-6))


def _heat(case: MediaCase) -> Array:
    """(H, W, 3): the DRR under the attention, more opaque where attention is higher."""
    from matplotlib import colormaps

    attention = case.attention / 255.0
    opacity = (0.15 + 0.6 * attention)[..., None]
    colours = colormaps[HEAT](attention)[..., :3]
    return _bytes(opacity * colours + (1 - opacity) * case.drr[..., None] / 255.0)
