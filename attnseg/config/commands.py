"""What the other commands take."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from attnseg.config.base import Fraction, Positive, Section, Trust
from attnseg.config.data import AnyData
from attnseg.config.metrics import Metrics
from attnseg.config.training import LoggerConfig

SplitName = Literal["all", "train", "val", "test"]
Format = Literal["table", "json", "csv"]
Text = Annotated[str, BeforeValidator(str)]  # what looks like a number to YAML, too
Tta = Literal["none", "flip", "flip_scale"]
Checkpoint = str | Annotated[list[str], Field(min_length=1)]  # a list is an ensemble
Saved = Literal["nifti", "png", "overlay", "dicom_seg", "dicom_capture", "page"]
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def seconds_of(age: str) -> float:
    """An age such as 7d, 12h or 2w in seconds.

    Raises:
        ValueError: it is none.
    """
    found = _AGE.fullmatch(age.strip())
    if found is None:
        raise ValueError("an age is a number and s, m, h, d or w, such as 7d")
    return float(found[1]) * _SECONDS[found[2]]


def _an_age(value: str) -> str:
    seconds_of(value)
    return value


def _none_or_two(value: list[str]) -> list[str]:
    if value and (len(value) != 2 or value[0] == value[1]):
        raise ValueError("two different keys are needed, such as [schedule,attention]")
    return value


class EvaluateConfig(Section):
    """`attnseg evaluate`: data is the checkpoint's own where it is null."""

    checkpoint: Checkpoint
    trust: Trust = []
    data: AnyData | None = None
    split: SplitName = "val"
    output_dir: str | None = None  # null: <run folder>/evaluate/<split>
    threshold: Fraction | None = None  # null: the one chosen on the checkpoint's validation split
    batch_size: Positive | None = None
    accelerator: str = "auto"
    n_pictures: Annotated[int, Field(ge=0)] = 6
    tta: Tta = "none"
    mc_dropout: Annotated[int, Field(ge=0)] = 0  # passes with dropout on; 0: off
    seed: Annotated[int, Field(ge=0)] = 0  # of the dropout
    # wandb: into the W&B run of the training
    logger: LoggerConfig = Field(default_factory=lambda: LoggerConfig.model_validate({}))
    metrics: Metrics = {}  # beside ours and those of the training


class AnalyzeConfig(EvaluateConfig):
    """`attnseg analyze`: as evaluate, and words for what is wrong."""

    train_cases: Annotated[int, Field(ge=0)] = 100  # measured beside a held-out split; 0: none


class DataCommandConfig(Section):
    """`attnseg data check|show`."""

    data: AnyData
    output_dir: str | None = None
    n_cases: Positive = 12
    split: SplitName = "all"


class DataBuildConfig(Section):
    """`attnseg data build`: source=... becomes data (see attnseg.commands.data_build)."""

    data: AnyData
    out: str
    images: Literal["link", "copy"] = "link"
    title: Text | None = None  # null: <source> case set
    license: Text | None = None  # of the data, in your words; into the data card
    # What the source leaves unstated, for every case of it:
    pairing: Literal["registered", "unregistered"] | None = None
    mask_kind: Literal["exact", "surrogate"] | None = None
    reader: Text | None = None


class DataMaskConfig(Section):
    """`attnseg data mask`: annotations of CTs as mask volumes on the CTs' grids."""

    annotations: str
    ct: str
    out: str
    format: Literal["auto", "lidc_xml", "contours", "luna16", "lidc_table", "mask"] = "auto"
    readers: str | int = "union"  # union | majority | all | how many must agree on a voxel
    findings: Annotated[
        list[Literal["nodule", "small_nodule", "non_nodule"]], Field(min_length=1)
    ] = ["nodule"]
    scan: Text | None = None  # which scan of a table or database; null: the CT's own name
    labels: bool = False  # number the nodules instead of 0 and 1


class CompareConfig(Section):
    """`attnseg compare`: runs are the words without a key."""

    runs: Annotated[list[str], Field(min_length=1)]
    trust: Trust = []
    baseline: str | None = None  # null: the first run's configuration
    split: SplitName = "val"
    output_dir: str | None = None  # null: compare/ beside the runs
    n_cases: Annotated[int, Field(ge=0)] = 6  # side by side; 0: none
    cases: list[str] = []  # their ids; empty: the first with a lesion
    evaluate: Literal["missing", "never"] = "missing"
    metric: str = "dice_positive"
    metrics: Annotated[list[str], Field(min_length=1)]
    heatmap: Annotated[list[str], AfterValidator(_none_or_two)] = []
    labels: list[str] = []
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    n_resamples: Annotated[int, Field(ge=100)] = 10_000
    seed: Annotated[int, Field(ge=0)] = 0
    batch_size: Positive | None = None
    accelerator: str = "auto"


class RunsListConfig(Section):
    """`attnseg runs list`."""

    root: str = "runs"
    state: str | list[str] | None = None
    sort: Literal["name", "state", "best", "size", "age"] = "name"
    format: Format = "table"


class RunsShowConfig(Section):
    """`attnseg runs show`: run is a folder, a name, or the beginning of an id."""

    run: str
    root: str = "runs"
    format: Format = "table"


class RunsPruneConfig(Section):
    """`attnseg runs prune`: what would go is listed; yes=true deletes it."""

    root: str = "runs"
    state: str | list[str] | None = None
    older_than: Annotated[str, BeforeValidator(str), AfterValidator(_an_age)] | None = None
    keep_best: Annotated[int, Field(ge=1)] | None = None
    metric: str | None = None  # keep_best: null is what each run's best.ckpt was chosen by
    what: Literal["run", "checkpoints", "last", "pictures"] = "run"
    yes: bool = False
    format: Format = "table"


class ExportConfig(Section):
    """`attnseg export`."""

    checkpoint: Checkpoint
    trust: Trust = []
    output: str | None = None  # null: <run folder>/export/<run name>.<the format's ending>
    format: Literal["safetensors", "exported_program", "onnx"] = "safetensors"
    member: Annotated[int, Field(ge=0)] | None = None  # of an ensemble; null: all
    half: bool = False  # safetensors: parameters in half precision
    threshold: Fraction | None = None  # to write into the file; null: the checkpoint's own
    paths: bool = True  # false: nothing that tells where files lay on this machine
    tolerance: Annotated[float, Field(gt=0.0)] = 1e-4  # largest difference from the model's maps
    dynamic_size: Literal["auto", "always", "never"] = "auto"


class PredictConfig(Section):
    """`attnseg predict`: images to findings."""

    checkpoint: Checkpoint
    trust: Trust = []
    images: str | Annotated[list[str], Field(min_length=1)]  # files, folders, globs
    drr: str | Annotated[list[str], Field(min_length=1)] | None = None
    out: str
    threshold: Fraction | None = None  # null: the checkpoint's own
    save: list[Saved] = ["nifti", "png", "overlay", "dicom_seg", "dicom_capture", "page"]
    accelerator: str = "auto"
    batch_size: Positive | Literal["auto"] = "auto"
    tiles: Positive = 1
    tile_overlap: Annotated[float, Field(ge=0.0, le=0.75)] = 0.25
    tta: Tta = "none"
    mc_dropout: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 0
    window: Literal["auto", "header", "none"] = "auto"
    square_pixels: bool = True
    on_mismatch: Literal["refuse", "resample"] = "refuse"
    min_lesion_px: Positive = 1
    anonymise: bool = False
    resume: bool = True
    page_cases: Annotated[int, Field(ge=0)] = 200


class SyncConfig(Section):
    """`attnseg sync`: which runs to send to W&B, and whether to."""

    paths: list[str] = []  # run folders, or folders of runs; empty: root
    root: str = "runs"
    dry_run: bool = False
    force: bool = False  # also what is marked as sent
    timeout_s: Annotated[float, Field(gt=0.0)] = 600.0  # how long one run's last upload may take
    project: str | None = None  # null: each run's own
    entity: str | None = None
