"""What the other commands take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from attnseg.config.base import Fraction, Positive, Section
from attnseg.config.data import AnyData


class EvaluateConfig(Section):
    """`attnseg evaluate`: data is the checkpoint's own where it is null."""

    checkpoint: str
    data: AnyData | None = None
    split: Literal["all", "train", "val", "test"] = "val"
    output_dir: str | None = None  # null: <run folder>/evaluate/<split>
    threshold: Fraction | None = None  # null: the one chosen on the checkpoint's validation split
    batch_size: Positive | None = None
    accelerator: str = "auto"
    n_pictures: Annotated[int, Field(ge=0)] = 6


class AnalyzeConfig(EvaluateConfig):
    """`attnseg analyze`: as evaluate, and words for what is wrong."""


class DataCommandConfig(Section):
    """`attnseg data check|show`."""

    data: AnyData
    output_dir: str | None = None
    n_cases: Positive = 12
    split: Literal["all", "train", "val", "test"] = "all"


class ExportConfig(Section):
    """`attnseg export`."""

    checkpoint: str
    output: str | None = None  # null: <run folder>/export/<run name>.safetensors


class SyncConfig(Section):
    """`attnseg sync`: which runs to send to W&B, and whether to."""

    paths: list[str] = []  # run folders, or folders of runs; empty: root
    root: str = "runs"
    dry_run: bool = False
    force: bool = False  # also what is marked as sent
    timeout_s: Annotated[float, Field(gt=0.0)] = 600.0  # how long one run's last upload may take
    project: str | None = None  # null: each run's own
    entity: str | None = None
