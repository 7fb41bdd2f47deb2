"""NODE21: frontal radiographs with boxes around nodules, in images/ beside metadata.csv.

The set tells no patients, so every image counts as a patient of its own; its images come from
JSRT, PadChest, ChestX-ray14 and Open-I, whose own patients may have several.
Source: Sogancioglu et al., IEEE TMI 43(8), 2024; node21.grand-challenge.org.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from attnseg.common.errors import ConfigError, DataError
from attnseg.component import Doc
from attnseg.data.sources.radiographs import RadiographSource, existing_root, images_below
from attnseg.imaging.annotations.node21 import read_node21
from attnseg.imaging.case import Case


class Node21Source(RadiographSource):
    """NODE21: metadata.csv with boxes beside images/.

    Reads the table once; images are opened by `load` only.

    Raises:
        ConfigError: `data.root` is not set right, or a column is missing.
        DataError: rows cannot be understood, or there are none.
    """

    name = "node21"

    def __init__(
        self,
        *,
        root: Annotated[str | None, Doc("the folder that holds metadata.csv; needed")] = None,
        mask: Annotated[Literal["box", "ellipse"], Doc("how a box is filled")] = "box",
    ) -> None:
        place = existing_root(root, "node21", "metadata.csv beside images/")
        table = _find_table(place)
        lesions = read_node21(table)
        if not lesions:
            raise DataError(f"{table}: the table has no rows")
        folder = table.parent / "images"
        images = images_below(folder if folder.is_dir() else table.parent)
        problems, cases, by_case = [], [], {}
        for name in sorted(lesions):
            paths = images.get(name, [])
            if len(paths) != 1:
                what = "no image of this name" if not paths else "several images of this name"
                problems.append(f"{table}: {name}: {what} below {folder}")
                continue
            case_id = Path(name).stem
            if case_id in by_case:
                problems.append(
                    f"{table}: {name}: duplicate case, there with another ending; keep one"
                )
                continue
            by_case[case_id] = lesions[name]
            cases.append(
                Case(case_id, case_id, xray=paths[0], pairing="unpaired", mask_kind="surrogate")
            )
        record = {
            "name": "node21",
            "root": str(place),
            "table": str(table),
            "n_images_without_row": len(images.keys() - lesions.keys()),
        }
        super().__init__(record, cases, by_case, problems, rule=mask)


def _find_table(root: Path) -> Path:
    """metadata.csv in root, or the only one below it."""
    found = [root / "metadata.csv"] if (root / "metadata.csv").is_file() else []
    found = found or sorted(root.rglob("metadata.csv"))
    if len(found) != 1:
        what = "no metadata.csv" if not found else f"{len(found)} files metadata.csv"
        raise ConfigError(f"data.root={root}: {what} below it; give the folder that holds it")
    return found[0]
