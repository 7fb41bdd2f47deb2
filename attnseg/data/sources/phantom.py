"""The embedded data source: procedural patients, so that everything runs without a download."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from attnseg.common.errors import ConfigError
from attnseg.component import Doc, Fraction, Ge, Positive
from attnseg.data.sources.base import Source
from attnseg.imaging.case import Case, CaseContent, CaseImages
from attnseg.imaging.drr.front_to_back import project_front_to_back
from attnseg.imaging.xray import xray_of_volume
from attnseg.phantom import Phantom, generate_phantom, is_negative
from attnseg.phantom.volume import FIELD_MM

GENERATOR_VERSION = 2
"""To be raised with every change of what a key generates: cached images then expire."""

XRAY_STREAM = 5


class PhantomSource(Source):
    """The embedded procedural chest: every case is a patient of its own.

    Cases are called `phantom-<seed>-<index>` and made on demand.
    A case depends on its seed and index and on the nodule settings and size; not on `n_cases`, on
    the order of loading or on the process that loads it.

    Raises:
        ConfigError: a range does not rise, or no nodule fits a lung.
    """

    name = "phantom"
    default_size = 256
    least_size = 64

    def __init__(
        self,
        size: int = 256,
        *,
        n_cases: Annotated[int, Ge(3), Doc("case i is the same patient whatever it is")] = 120,
        seed: Annotated[int, Ge(0), Doc("of the patients; another seed, other patients")] = 0,
        negative_fraction: Annotated[Fraction, Doc("share of cases without a nodule")] = 0.15,
        max_nodules: Annotated[Positive, Doc("in one case; each further one half as likely")] = 3,
        diameter_mm: Annotated[
            tuple[float, float], Doc("least and largest, log-uniform: small ones are more common")
        ] = (8.0, 30.0),
        contrast_hu: Annotated[
            tuple[float, float], Doc("HU above the lung around the nodule; lower is subtler")
        ] = (550.0, 950.0),
    ) -> None:
        for name, (low, high) in (("diameter_mm", diameter_mm), ("contrast_hu", contrast_hu)):
            if not 0.0 < low <= high:
                raise ConfigError(
                    f"data.{name}: expected 0 < least <= largest, got [{low:g}, {high:g}]"
                )
        if diameter_mm[1] > 60.0:
            raise ConfigError("data.diameter_mm: above 60 mm no nodule fits a phantom's lung")
        self.seed, self.n_cases, self.size = seed, n_cases, size
        self._nodules: dict[str, Any] = {
            "negative_fraction": negative_fraction,
            "max_nodules": max_nodules,
            "diameter_mm": diameter_mm,
            "contrast_hu": contrast_hu,
        }
        self.record: dict[str, Any] = {
            "name": "phantom",
            "generator_version": GENERATOR_VERSION,
            "xray": "projected from the same phantom, other pose and beam",
            **self._content(),
            "n_cases": n_cases,
        }

    def cases(self) -> list[Case]:
        """Every case, in order of index; nothing is generated."""
        side = FIELD_MM / self.size
        names = [f"phantom-{self.seed}-{index:05d}" for index in range(self.n_cases)]
        return [
            Case(name, name, spacing=(side, side), pairing="registered", mask_kind="exact")
            for name in names
        ]

    def is_positive(self, case: Case) -> bool:
        """Whether a case has a nodule, known from its key without generating it."""
        share = self._nodules["negative_fraction"]
        return not is_negative(self.seed, self._index(case), share)

    def phantom(self, case: Case) -> Phantom:
        """The CT behind a case."""
        return generate_phantom(self.seed, self._index(case), size=self.size, **self._nodules)

    def load(self, case: Case) -> CaseImages:
        """Generate a case: DRR and mask by the same rays, and an X-ray of the same patient."""
        phantom = self.phantom(case)
        drr = project_front_to_back(phantom.volume_hu, phantom.spacing, phantom.nodule_mask)
        key = (self.seed, self._index(case), XRAY_STREAM)
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

    def _content(self) -> dict[str, Any]:
        """What decides what a case looks like, in plain types."""
        ranges = {key: list(self._nodules[key]) for key in ("diameter_mm", "contrast_hu")}
        return {"seed": self.seed, "size": self.size, **self._nodules, **ranges}

    def _index(self, case: Case) -> int:
        prefix, _, index = case.case_id.rpartition("-")
        assert prefix == f"phantom-{self.seed}", f"{case.case_id} is not of this source"
        return int(index)
