"""What the real DRRs say about finding nodules on them.

    python experiments/lidc_data/study.py --root ../shared/data/lidc_drr/LIDC_LDRI

Writes results.csv and figures into the output folder (default: beside this file), and with
--lesions a table with a line for each lesion. README.md says what came out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402

from attnseg.common.errors import DataError, UserError  # noqa: E402
from attnseg.common.files import csv_text, write_text  # noqa: E402
from attnseg.config import DataCommandConfig, DataConfig  # noqa: E402
from attnseg.config.compose import compose_checked  # noqa: E402
from attnseg.data.sources import build_source, sound_cases  # noqa: E402
from experiments.lidc_data import appearance, defects, figures, floors, tables  # noqa: E402
from experiments.lidc_data.cases import (  # noqa: E402
    Studied,
    match_annotations,
    read_annotations,
    study_case,
    table_row,
)
from experiments.lidc_data.resolution import GRIDS, dice_after_resampling  # noqa: E402
from experiments.lidc_data.tables import Line  # noqa: E402
from experiments.lidc_data.visibility import measure_visibility  # noqa: E402


def study(data: DataConfig, seed: int, output: Path, lesions_csv: Path | None = None) -> list[Line]:
    """Measure everything on the cases of a data section.

    Args:
        data: which cases, and at which size.
        seed: of the random places that lesions are compared with and the observer learns from.
        output: folder of results.csv and the figures.
        lesions_csv: where the table of lesions goes; None writes none.

    Raises:
        UserError: the data cannot be read, or holds no lesion.
    """
    source = build_source(data)
    cases = sound_cases(source)
    folder = _tables_folder(data)
    with Progress(console=Console(stderr=True)) as bar:
        raws = [defects.look_at(source, case) for case in bar.track(cases, description="files")]
        studied = [
            study_case(source, case, data.size) for case in bar.track(cases, description="lesions")
        ]
        for one in bar.track(studied, description="visibility"):
            measure_visibility(one, seed)
        positive = [one for one in studied if one.lesions]
        if not positive:
            raise DataError("no case has a lesion: there is nothing to study")
        found = [
            dice_after_resampling(one, data.size)
            for one in bar.track(positive, description="resolution")
        ]
        folds = floors.patient_folds(studied)
        lines = floors.prior_lines(folds, data.size, bar)
        lines += floors.observer_lines(studied, folds, data.size, seed, bar)
    costs = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    lines += [
        Line("resolution", name, "positive cases", v, len(found)) for name, v in costs.items()
    ]
    lines += _annotations(positive, folder)
    lesions = [lesion for one in studied for lesion in one.lesions]
    lines += tables.sizes(studied) + tables.ratings(lesions) + tables.visibility(lesions)
    lines += tables.ceilings(studied) + tables.registration(studied) + tables.lung_lines(studied)
    lines += defects.defect_lines(cases, raws, folder and folder / "scans.csv")
    profiles = appearance.mean_profiles(studied)
    lines += appearance.edge_lines(profiles) + appearance.appearance_lines(studied)
    figures.draw_sizes(lines, lesions, output / "sizes.png")
    figures.draw_visibility(lesions, output / "visibility.png")
    figures.draw_registration(lesions, output / "registration.png")
    figures.draw_heat_map(studied, output / "heat_map.png")
    figures.draw_edges(profiles, output / "edges.png")
    figures.draw_resolution(costs, GRIDS, output / "resolution.png")
    order = sorted(lines, key=lambda line: line.question)  # stable: within a question as made
    _write(output / "results.csv", [_row(line) for line in order])
    if lesions_csv is not None:
        _write(lesions_csv, [table_row(one, lesion) for one in studied for lesion in one.lesions])
    return order


def _tables_folder(data: DataConfig) -> Path | None:
    """The folder with scans.csv and annotations.csv, where there is one."""
    root = Path(str(getattr(data, "root", None)))
    places = (place for place in (root, root.parent) if (place / "annotations.csv").is_file())
    return next(places, None)


def _annotations(positive: Sequence[Studied], folder: Path | None) -> list[Line]:
    """Rate the lesions by the readers' annotations, and say how well these lie on the masks."""
    if folder is None:
        return []
    annotations = read_annotations(folder)
    matches = [
        match_annotations(one, annotations.get(one.case.drr.name, []))
        for one in positive
        if one.case.drr is not None
    ]
    farthest = np.array([match.farthest_px for match in matches])
    unmatched = sum(not lesion.ratings for one in positive for lesion in one.lesions)
    values = {
        "farthest annotation from its mask in any scan, px": float(np.nanmax(farthest)),
        "scans with an annotation more than 2 px off the mask": float((farthest > 2).sum()),
        "lesions without an annotation": float(unmatched),
        "annotations": float(sum(match.n_annotations for match in matches)),
    }
    return [Line("annotations", name, "all", value, len(matches)) for name, value in values.items()]


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
    write_text(path, csv_text(columns, listed))


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
