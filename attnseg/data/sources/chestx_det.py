"""ChestX-Det: findings outlined on 3578 images of ChestX-ray14.

A patient is the number before the underscore of an image's name. Which of the two JSON files an
image is in is its split (`data.split.kind=fixed`). Images without one of the chosen findings are
negatives.
Source: Lian et al., arXiv 2104.10326; github.com/Deepwise-AILab/ChestX-Det-Dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from attnseg.common.errors import ConfigError, DataError
from attnseg.component import Doc, MinLen
from attnseg.data.sources.files import attempt
from attnseg.data.sources.radiographs import RadiographSource, existing_root, images_below
from attnseg.imaging.annotations.chestx_det import SYMS, read_chestx_det
from attnseg.imaging.annotations.nodule import Nodule
from attnseg.imaging.case import Case


class ChestXDetSource(RadiographSource):
    """ChestX-Det: JSON files with polygons, and the PNGs.

    Reads the files once; images are opened by `load` only.

    Raises:
        ConfigError: `data.root` or `data.labels` is not set right.
        DataError: there is no JSON file, or one cannot be understood.
    """

    name = "chestx_det"

    def __init__(
        self,
        *,
        root: Annotated[str | None, Doc("the folder of images and JSON files; needed")] = None,
        labels: Annotated[
            Sequence[str], MinLen(1), Doc("findings that count; other images are negative")
        ] = ("Nodule", "Mass"),
        mask: Annotated[
            Literal["polygon", "box", "ellipse"], Doc("how a finding is filled")
        ] = "polygon",
    ) -> None:
        unknown = [label for label in labels if label not in SYMS]
        if unknown:
            raise ConfigError(
                f"data.labels: no finding named {', '.join(unknown)}; there are {', '.join(SYMS)}"
            )
        folder = existing_root(root, "chestx_det", "ChestX_Det_train.json and the images")
        tables = sorted(folder.rglob("ChestX_Det*.json"))
        if not tables:
            raise ConfigError(f"data.root={folder}: no ChestX_Det_train.json, _test.json there")
        self._images = images_below(folder)
        problems: list[str] = []
        cases: dict[str, Case] = {}
        lesions: dict[str, tuple[Nodule, ...]] = {}
        for table in tables:
            split = next((name for name in ("train", "test") if name in table.stem.lower()), None)
            entries = attempt(problems, lambda t=table: read_chestx_det(t, labels))  # type: ignore[misc]
            for name, found in (entries or {}).items():
                case = self._case(name, split, table, problems)
                if case is None:
                    continue
                if case.case_id in cases:
                    problems.append(
                        f"{table}: {name}: duplicate case, also in another file; keep one"
                    )
                    continue
                cases[case.case_id], lesions[case.case_id] = case, found
        if not cases and problems:
            raise DataError(f"data.root={folder}: nothing in it can be used:", problems)
        record = {
            "name": "chestx_det",
            "root": str(folder),
            "tables": [str(table) for table in tables],
            "labels": list(labels),
        }
        ordered = [cases[name] for name in sorted(cases)]
        super().__init__(record, ordered, lesions, problems, rule=mask)

    def _case(self, name: str, split: str | None, table: Path, problems: list[str]) -> Case | None:
        paths = self._images.get(name, [])
        if len(paths) != 1:
            what = "no image of this name" if not paths else "several images of this name"
            problems.append(f"{table}: {name}: {what} below {table.parent}")
            return None
        stem = Path(name).stem
        return Case(
            stem,
            stem.partition("_")[0],
            xray=paths[0],
            split=split,
            pairing="unpaired",
            mask_kind="surrogate",
        )
