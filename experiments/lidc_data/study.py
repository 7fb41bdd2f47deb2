"""What the real DRRs say about finding nodules on them.

    python experiments/lidc_data/study.py --root ../shared/data/lidc_drr/LIDC_LDRI

Writes results.csv and figures into the output folder (default: beside this file), and with
--lesions a table with a line for each lesion. README.md says what came out.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402

from attnseg.commands.compose import compose_checked  # noqa: E402
from attnseg.config import AnyData, DataCommandConfig, SplitConfig  # noqa: E402
from attnseg.data.readers import build_source, sound_cases  # noqa: E402
from attnseg.data.splits import make_splits  # noqa: E402
from attnseg.errors import UserError  # noqa: E402
from attnseg.runs.files import write_text  # noqa: E402
from experiments.lidc_data import defects, figures, tables  # noqa: E402
from experiments.lidc_data.cases import (  # noqa: E402
    Studied,
    match_annotations,
    read_annotations,
    study_case,
    table_row,
)
from experiments.lidc_data.observer import (  # noqa: E402
    fit_observer,
    local_features,
    observer_beats,
    predict_map,
)
from experiments.lidc_data.prior import (  # noqa: E402
    centred_prior,
    lung_prior,
    score_prediction,
    uniform_lungs,
)
from experiments.lidc_data.resolution import GRIDS, dice_after_resampling  # noqa: E402
from experiments.lidc_data.tables import Line  # noqa: E402
from experiments.lidc_data.visibility import measure_visibility  # noqa: E402

SIGMA = 24.0
"""px at 512: smoothing of the location priors."""

FOLDS = 5


def study(data: AnyData, seed: int, output: Path, lesions_csv: Path | None = None) -> list[Line]:
    """Measure everything on the cases of a data section.

    Args:
        data: which cases, and at which size.
        seed: of the random places and the observer's; the folds are `data.split`'s (seed 0).
        output: folder of results.csv and the figures.
        lesions_csv: where the table of lesions goes; None writes none.

    Raises:
        UserError: the data cannot be read.
    """
    source = build_source(data)
    cases = sound_cases(source)
    with Progress(console=Console(stderr=True)) as bar:
        raws = [defects.look_at(source, case) for case in bar.track(cases, description="files")]
        studied = [
            study_case(source, case, data.size) for case in bar.track(cases, description="lesions")
        ]
        lines = _annotations(studied, _tables_of(data))
        for one in bar.track(studied, description="visibility"):
            measure_visibility(one, seed)
        found = [
            dice_after_resampling(one, data.size)
            for one in bar.track([one for one in studied if one.lesions], description="resolution")
        ]
        costs = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        lines += [
            Line("resolution", name, "positive cases", v, len(found)) for name, v in costs.items()
        ]
        folds = _folds(studied)
        lines += _priors(folds, data.size, len(studied), bar)
        lines += _observer(studied, folds, data.size, seed, bar)
    lesions = [lesion for one in studied for lesion in one.lesions]
    lines += tables.sizes(studied) + tables.ratings(lesions) + tables.visibility(lesions)
    lines += tables.ceilings(studied) + tables.registration(studied) + _lungs(studied)
    lines += _defects(cases, raws, data)
    figures.draw_sizes(lines, lesions, output / "sizes.png")
    figures.draw_visibility(lesions, output / "visibility.png")
    figures.draw_registration(lesions, output / "registration.png")
    figures.draw_heat_map(studied, output / "heat_map.png")
    figures.draw_resolution(costs, GRIDS, output / "resolution.png")
    order = sorted(lines, key=lambda line: line.question)  # stable: within a question as made
    _write(output / "results.csv", [_row(line) for line in order])
    if lesions_csv is not None:
        _write(lesions_csv, [table_row(one, lesion) for one in studied for lesion in one.lesions])
    return order


def _tables_of(data: AnyData) -> Path | None:
    """The folder with scans.csv and annotations.csv, where there is one."""
    root = Path(str(getattr(data, "root", None)))
    places = [place for place in (root, root.parent) if (place / "annotations.csv").is_file()]
    return places[0] if places else None


def _annotations(studied: Sequence[Studied], folder: Path | None) -> list[Line]:
    if folder is None:
        return []
    annotations = read_annotations(folder)
    matches = [
        match_annotations(one, annotations.get(one.case.drr.name, []))
        for one in studied
        if one.case.drr is not None and one.lesions
    ]
    farthest = np.array([match.farthest_px for match in matches])
    unmatched = sum(not lesion.ratings for one in studied for lesion in one.lesions)
    return [
        Line(
            "registration",
            "farthest annotation from its mask, px",
            "worst scan",
            float(farthest.max()),
            len(matches),
        ),
        Line(
            "registration",
            "scans with an annotation more than 2 px off the mask",
            "all",
            float((farthest > 2).sum()),
            len(matches),
        ),
        Line("ratings", "lesions without an annotation", "all", float(unmatched), len(matches)),
        Line(
            "ratings",
            "annotations",
            "all",
            float(sum(m.n_annotations for m in matches)),
            len(matches),
        ),
    ]


def _folds(studied: Sequence[Studied]) -> list[tuple[list[Studied], list[Studied]]]:
    by_id = {one.case.case_id: one for one in studied}
    folds = []
    for fold in range(FOLDS):
        splits = make_splits(
            [one.case for one in studied], SplitConfig(kind="kfold", folds=FOLDS, fold=fold)
        )
        groups = ([by_id[case.case_id] for case in group] for group in (splits.train, splits.val))
        folds.append((next(groups), next(groups)))
    return folds


def _priors(
    folds: Sequence[tuple[list[Studied], list[Studied]]], size: int, n: int, bar: Progress
) -> list[Line]:
    lines = []
    kinds = {
        "image frame": centred_prior,
        "lung box": lung_prior,
        "own lung fields, nothing learned": uniform_lungs,
    }
    for name, make in kinds.items():
        task = bar.add_task(f"prior: {name}", total=n)
        fitted = [
            (train, held_out, make(train, size, SIGMA * size / 512)) for train, held_out in folds
        ]
        scores = score_prediction(fitted, size, lambda done, task=task: bar.advance(task, done))
        lines += [Line("prior", metric, name, value, n) for metric, value in scores.items()]
    return lines


def _observer(
    studied: Sequence[Studied],
    folds: Sequence[tuple[list[Studied], list[Studied]]],
    size: int,
    seed: int,
    bar: Progress,
) -> list[Line]:
    features = {
        one.case.case_id: local_features(one)
        for one in bar.track(studied, description="observer: features")
    }
    task = bar.add_task("observer: folds", total=len(studied))
    fitted = []
    for train, held_out in folds:
        observer = fit_observer([(features[one.case.case_id], one) for one in train], seed)
        for one in held_out:
            observer_beats(features[one.case.case_id], observer, one)
        fitted.append((train, held_out, _predictor(features, observer, size)))
    scores = score_prediction(fitted, size, lambda done: bar.advance(task, done))
    return [
        Line("observer", metric, "learned local observer", v, len(studied))
        for metric, v in scores.items()
    ]


def _predictor(
    features: dict[str, Any], observer: Callable[[Any], Any], size: int
) -> Callable[[Studied], Any]:
    return lambda one: predict_map(features[one.case.case_id], observer, one, size)


def _lungs(studied: Sequence[Studied]) -> list[Line]:
    share = np.array([float(one.lungs.mean()) for one in studied])
    lesions = [lesion for one in studied for lesion in one.lesions]
    inside = np.array([lesion.in_lung for lesion in lesions])
    area = np.array([lesion.n_pixels for lesion in lesions])
    values = {
        "share of the image, median": (float(np.median(share)), len(share)),
        "cases with less than 15 % of the image (suspect)": (
            float((share < 0.15).sum()),
            len(share),
        ),
        "share of nodule pixels inside": (float((inside * area).sum() / area.sum()), len(lesions)),
        "lesions at least half inside": (float((inside >= 0.5).mean()), len(lesions)),
        "lesions wholly outside": (float((inside == 0).mean()), len(lesions)),
    }
    return [Line("lungs", name, "all", value, n) for name, (value, n) in values.items()] + _outside(
        studied
    )


def _outside(studied: Sequence[Studied]) -> list[Line]:
    """Where the lesions outside the lung fields are, by the fields' bounding box."""
    from experiments.lidc_data.lungs import bounding_box

    counts = {
        "below both fields or behind the diaphragm": 0,
        "between the fields (heart, mediastinum)": 0,
        "elsewhere (apex, chest wall, failed field)": 0,
    }
    total = 0
    for one in studied:
        top, left, height, width = bounding_box(one.lungs)
        for lesion in one.lesions:
            if lesion.in_lung >= 0.5:
                continue
            total += 1
            row, column = (lesion.centre[0] - top) / height, (lesion.centre[1] - left) / width
            above = one.lungs[int(lesion.centre[0]) :, int(lesion.centre[1])].any()
            if row > 0.5 and not above:
                counts["below both fields or behind the diaphragm"] += 1
            elif 0.3 < column < 0.7 and 0 <= row <= 1:
                counts["between the fields (heart, mediastinum)"] += 1
            else:
                counts["elsewhere (apex, chest wall, failed field)"] += 1
    return [
        Line("lungs", "lesions mostly outside", place, float(n), total)
        for place, n in counts.items()
    ]


def _defects(cases: Sequence[Any], raws: Sequence[defects.Raw], data: AnyData) -> list[Line]:
    n = len(cases)
    lines = [
        Line("defects", "DRRs equal to the byte", " = ".join(ids), float(len(ids)), n)
        for ids in defects.equal_images(cases, raws)
    ]
    for r, first, second, same in defects.look_alikes(cases, raws):
        kind = "of one patient" if same else "of two patients"
        lines.append(
            Line(
                "defects",
                f"look-alikes {kind}, r of {48} px thumbnails",
                f"{first} ~ {second}",
                r,
                n,
            )
        )
    for patient, ids in defects.repeated_patients(cases).items():
        lines.append(
            Line(
                "defects", "cases of one patient", f"{patient}: {' '.join(ids)}", float(len(ids)), n
            )
        )
    folder = _tables_of(data)
    if folder is not None:
        for case, height, formula in defects.odd_heights(cases, raws, folder / "scans.csv"):
            lines.append(
                Line("defects", "height minus formula, px", case, float(height - formula), n)
            )
    columns = {
        "height px": [raw.height for raw in raws],
        "smallest grey": [raw.levels[0] for raw in raws],
        "largest grey": [raw.levels[1] for raw in raws],
        "mean grey": [raw.levels[2] for raw in raws],
        "sd of grey": [raw.levels[3] for raw in raws],
        "share of pixels at the smallest grey": [raw.at_zero for raw in raws],
    }
    for name, values in columns.items():
        for percent in (0, 5, 50, 95, 100):
            lines.append(
                Line(
                    "defects",
                    f"{name}, percentile {percent}",
                    "all",
                    float(np.percentile(values, percent)),
                    n,
                )
            )
    return lines


def _row(line: Line) -> dict[str, Any]:
    return {
        "question": line.question,
        "measure": line.measure,
        "subset": line.subset,
        "value": f"{line.value:.4g}",
        "n": line.n,
    }


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    listed = list(rows)
    columns = list(dict.fromkeys(name for row in listed for name in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    write_text(path, table.getvalue())


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", required=True, help="the folder that contains LIDC_LDRI, or is it"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, help="folder of the results"
    )
    parser.add_argument("--lesions", type=Path, help="CSV to write a line for each lesion to")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    try:
        data = compose_checked(
            "data_command", ["data=lidc_drr", f"data.root={arguments.root}"], DataCommandConfig
        ).data
        study(data, arguments.seed, arguments.output, arguments.lesions)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"results: {arguments.output / 'results.csv'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
