"""The embedded data source: procedural patients, so that everything runs without a download."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from attnseg.config import PhantomDataConfig
from attnseg.imaging.case import Case, CaseContent, CaseImages
from attnseg.imaging.drr.front_to_back import project_front_to_back
from attnseg.imaging.xray import xray_of_volume
from attnseg.phantom import Phantom, generate_phantom, is_negative
from attnseg.phantom.volume import FIELD_MM

GENERATOR_VERSION = 2
"""To be raised with every change of what a key generates: cached images then expire."""

XRAY_STREAM = 5


class PhantomSource:
    """Cases `phantom-<seed>-<index>`, each a patient of their own, made on demand.

    A case depends on its seed and index and on the config's nodule settings and size; not on
    `n_cases`, on the order of loading or on the process that loads it.
    """

    def __init__(self, config: PhantomDataConfig) -> None:
        self.config = config
        self.record: dict[str, Any] = {
            "name": "phantom",
            "generator_version": GENERATOR_VERSION,
            "xray": "projected from the same phantom, other pose and beam",
            **self._content(),
            "n_cases": config.n_cases,
        }

    def cases(self) -> list[Case]:
        """Every case, in order of index; nothing is generated."""
        side = FIELD_MM / self.config.size
        names = [f"phantom-{self.config.seed}-{index:05d}" for index in range(self.config.n_cases)]
        return [
            Case(name, name, spacing=(side, side), pairing="registered", mask_kind="exact")
            for name in names
        ]

    def is_positive(self, case: Case) -> bool:
        """Whether a case has a nodule, known from its key without generating it."""
        config = self.config
        return not is_negative(config.seed, self._index(case), config.negative_fraction)

    def phantom(self, case: Case) -> Phantom:
        """The CT behind a case."""
        config = self.config
        return generate_phantom(
            config.seed,
            self._index(case),
            size=config.size,
            negative_fraction=config.negative_fraction,
            max_nodules=config.max_nodules,
            diameter_mm=config.diameter_mm,
            contrast_hu=config.contrast_hu,
        )

    def load(self, case: Case) -> CaseImages:
        """Generate a case: DRR and mask by the same rays, and an X-ray of the same patient."""
        phantom = self.phantom(case)
        drr = project_front_to_back(phantom.volume_hu, phantom.spacing, phantom.nodule_mask)
        key = (self.config.seed, self._index(case), XRAY_STREAM)
        xray = xray_of_volume(phantom.volume_hu, phantom.spacing, key)
        return CaseImages(xray=xray, drr=drr.image, mask=drr.mask, spacing=drr.spacing)

    def fingerprint(self, case: Case) -> str:
        """Hash of the case's key, everything in the config that shapes it, and the generator."""
        made_of = self.content(case).parameters
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def content(self, case: Case) -> CaseContent:
        """No file: the generator's version and all that it is given."""
        made_of = {"version": GENERATOR_VERSION, "index": self._index(case), **self._content()}
        return CaseContent(parameters=made_of)

    def problems(self) -> list[str]:
        """None: what could be wrong, the config's checks refuse."""
        return []

    def _content(self) -> dict[str, Any]:
        """The config's values that decide what a case looks like."""
        config = self.config
        return {
            "seed": config.seed,
            "size": config.size,
            "negative_fraction": config.negative_fraction,
            "max_nodules": config.max_nodules,
            "diameter_mm": list(config.diameter_mm),
            "contrast_hu": list(config.contrast_hu),
        }

    def _index(self, case: Case) -> int:
        prefix, _, index = case.case_id.rpartition("-")
        assert prefix == f"phantom-{self.config.seed}", f"{case.case_id} is not of this source"
        return int(index)
