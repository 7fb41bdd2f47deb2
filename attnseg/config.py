"""The typed schema of every command's configuration, and the checks across fields.

Hydra composes `conf/`; what comes out is validated here. Two facts made this the place for it
rather than dataclasses in Hydra's ConfigStore: `+trainer.max_epoch=3` slips past structured
configs, and a user wants every mistake listed at once. Nothing heavy is imported, so a
mistyped key costs no import of torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from attnseg.errors import ConfigError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]
Channels = Annotated[list[Positive], Field(min_length=2, max_length=5)]  # stride 32 at most
WeightName = Literal["segmentation", "attention", "alignment"]
GroupName = Literal["attention", "head", "backbone"]
Norm = Literal["group", "batch", "instance"]


class Section(BaseModel):
    """A strict, immutable part of the configuration: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


# --- data ---------------------------------------------------------------------------------


class SplitConfig(Section):
    """How patients (never files) are divided into train, val and test."""

    kind: Literal["random", "kfold", "fixed"] = "random"
    seed: int = 0
    val_fraction: Fraction = 0.2
    test_fraction: Fraction = 0.0
    folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    file: str | None = None  # fixed: a CSV with columns patient, split

    @model_validator(mode="after")
    def _consistent(self) -> SplitConfig:
        if self.kind == "random" and self.val_fraction + self.test_fraction >= 1.0:
            raise ValueError("val_fraction + test_fraction leave no patient for training")
        if self.kind == "kfold" and self.fold >= self.folds:
            raise ValueError(
                f"fold={self.fold} does not exist: folds count from 0 to {self.folds - 1}"
            )
        return self


class PatchConfig(Section):
    """What one training sample is: a patch of `size` px, or the whole image where size is null."""

    size: Annotated[int, Field(ge=32, multiple_of=32)] | None = None
    foreground: Fraction = 0.5  # share of patches of a positive case centred near its mask
    per_case: Positive = 1  # samples a case gives an epoch


class AugmentConfig(Section):
    """Training-time augmentation; geometry is shared by X-ray, DRR and mask, intensity is not."""

    enabled: bool = True
    probability: Fraction = 0.5  # of each transform below
    flip: Fraction = 0.5  # left-right
    rotate_deg: NonNegative = 10.0
    scale: NonNegative = 0.15
    translate: Fraction = 0.05
    gamma: NonNegative = 0.3
    contrast: NonNegative = 0.2
    noise: NonNegative = 0.05  # standard deviations of the image
    blur_px: NonNegative = 1.0


class DataConfig(Section):
    """What every data source shares."""

    size: Annotated[int, Field(ge=32, multiple_of=32)] = 512  # square, padded, never stretched
    batch_size: Positive = 4
    eval_batch_size: Positive = 2
    num_workers: Annotated[int, Field(ge=0)] = 0
    cache_dir: str | None = None  # null: $ATTNSEG_CACHE, else ~/.cache/attnseg
    oversample_positive: Annotated[float, Field(ge=1.0)] = 1.0
    split: SplitConfig = SplitConfig()
    patch: PatchConfig = PatchConfig()
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _patch_fits(self) -> DataConfig:
        if self.patch.size is not None and self.patch.size > self.size:
            raise ValueError(f"patch.size={self.patch.size} is larger than size={self.size}")
        return self


class PhantomDataConfig(DataConfig):
    """The embedded procedural chest: every case is a patient of its own, keyed by seed."""

    name: Literal["phantom"]
    size: Annotated[int, Field(ge=64, multiple_of=32)] = 256
    n_cases: Annotated[int, Field(ge=3)] = 120
    seed: Annotated[int, Field(ge=0)] = 0
    negative_fraction: Fraction = 0.15
    max_nodules: Positive = 3
    diameter_mm: tuple[float, float] = (8.0, 30.0)  # least and largest, log-uniform between
    contrast_hu: tuple[float, float] = (550.0, 950.0)  # above the lung around the nodule

    @model_validator(mode="after")
    def _ranges_rise(self) -> PhantomDataConfig:
        for name in ("diameter_mm", "contrast_hu"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high:
                raise ValueError(f"{name}: expected 0 < least <= largest, got [{low:g}, {high:g}]")
        if self.diameter_mm[1] > 60.0:
            raise ValueError("diameter_mm: above 60 mm no nodule fits a phantom's lung")
        return self


class LidcDrrDataConfig(DataConfig):
    """`<root>/<range>/<case>_drr.png` with `<case>_drr_mask.png`; no X-ray of its own."""

    name: Literal["lidc_drr"]
    root: str | None = None
    xray: Literal["same", "simulated"] = "same"
    scans_csv: str | None = None  # null: looked for in root and beside it


class ManifestDataConfig(DataConfig):
    """A CSV with columns case, patient, xray, drr, mask and optionally spacing, split."""

    name: Literal["manifest"]
    root: str | None = None  # the CSV, or the folder that holds manifest.csv
    on_mismatch: Literal["resample", "refuse"] = "refuse"


AnyData = Annotated[
    PhantomDataConfig | LidcDrrDataConfig | ManifestDataConfig, Field(discriminator="name")
]

# --- model --------------------------------------------------------------------------------


class EncoderConfig(Section):
    """The feature pyramid of a pathway."""

    name: Literal["light", "resnet18", "resnet50"] = "light"
    channels: Channels = [8, 32, 64, 96, 128]  # light only: strides 2, 4, 8, ...
    blocks: Positive = 1  # light only: residual blocks a stage
    norm: Norm = "group"  # light only: group norm is the same on one process and on many
    weights: str | None = None  # resnet only: a local TorchXRayVision or torchvision state dict

    @model_validator(mode="after")
    def _weights_have_a_network(self) -> EncoderConfig:
        if self.weights is not None and self.name == "light":
            raise ValueError("weights: the light encoder reads none; choose model=resnet18 or 50")
        return self


class FusionConfig(Section):
    """features x (1 + alpha x attention)."""

    alpha: float = 1.0
    learned: bool = True


class DualPathwayConfig(Section):
    """X-ray pathway, DRR pathway, attention, fusion, decoder."""

    name: Literal["dual_pathway"]
    encoder: EncoderConfig = EncoderConfig()
    drr_encoder: EncoderConfig | None = None  # null: like `encoder`
    decoder_channels: Positive = 8
    dropout: Fraction = 0.1
    fusion: FusionConfig = FusionConfig()


class OriginalModelConfig(Section):
    """The first attempt's architecture, the baseline that every claim is measured against."""

    name: Literal["original"]
    weights: str | None = None  # a local TorchXRayVision state dict
    alpha: float = 0.3
    freeze_early: bool = False  # train only the encoder's last stage, as the original did


class MonaiModelConfig(Section):
    """Any MONAI (or other importable) segmentation network as a control without attention."""

    name: Literal["monai"]
    network: dict[str, Any]  # {_target_: monai.networks.nets.UNet, ...}
    inputs: Literal["xray", "drr", "both"] = "xray"


AnyModel = Annotated[
    DualPathwayConfig | OriginalModelConfig | MonaiModelConfig, Field(discriminator="name")
]


class AttentionConfig(Section):
    """Which mechanism makes the attention map, and its shape."""

    name: Literal["none", "drr", "supervised", "anatomical"]
    hidden_channels: Positive = 32
    blocks: Positive = 2  # residual refinement blocks
    stride: Literal[1, 2, 4, 8] = 4  # resolution at which attention is computed
    temperature: Annotated[float, Field(gt=0.0)] = 0.5
    learned_temperature: bool = False
    dropout: Fraction = 0.1


# --- loss and schedule ----------------------------------------------------------------------


class SegmentationLossConfig(Section):
    """Weights of the segmentation terms; a zero weight leaves the term out."""

    bce: NonNegative = 1.0
    dice: NonNegative = 1.0
    focal: NonNegative = 1.0
    tversky: NonNegative = 0.0
    focal_tversky: NonNegative = 0.0
    bce_pos_weight: Annotated[float, Field(gt=0.0)] = 1.0
    focal_gamma: NonNegative = 2.0
    focal_alpha: Fraction | None = 0.75
    tversky_alpha: Fraction = 0.3  # weight of false positives
    tversky_beta: Fraction = 0.7  # weight of false negatives
    tversky_gamma: Annotated[float, Field(ge=1.0)] = 1.33  # focal_tversky: (1 - index)^(1 / gamma)

    @model_validator(mode="after")
    def _something_to_learn(self) -> SegmentationLossConfig:
        if not any((self.bce, self.dice, self.focal, self.tversky, self.focal_tversky)):
            raise ValueError("every term weighs 0: nothing would teach the segmentation")
        if self.tversky_alpha + self.tversky_beta == 0:
            raise ValueError("tversky_alpha and tversky_beta are both 0: no error would count")
        return self


class AttentionLossConfig(Section):
    """Weights of the terms that supervise attention by the mask; zero leaves the term out."""

    bce: NonNegative = 1.0
    focal: NonNegative = 1.0
    dice: NonNegative = 0.0  # on the map that fusion uses; the others are on its logits
    bce_pos_weight: Annotated[float, Field(gt=0.0)] = 1.0
    focal_gamma: NonNegative = 2.0
    focal_alpha: Fraction | None = 0.75

    @model_validator(mode="after")
    def _something_to_learn(self) -> AttentionLossConfig:
        if not any((self.bce, self.focal, self.dice)):
            raise ValueError("every term weighs 0; to train without supervision: schedule=none")
        return self


class AlignmentLossConfig(Section):
    """Agreement of the attention map with the predicted mask."""

    kind: Literal["pearson", "dice", "mse"] = "pearson"
    detach: Literal["none", "attention", "segmentation"] = "none"  # the map that is not moved


class LossConfig(Section):
    """The combined loss: named terms, weighted by the schedule."""

    segmentation: SegmentationLossConfig = SegmentationLossConfig()
    attention: AttentionLossConfig = AttentionLossConfig()
    alignment: AlignmentLossConfig = AlignmentLossConfig()


class CurveConfig(Section):
    """A loss weight over the epochs of one phase, `start` at its first and `end` at its last.

    Without a `curve` it is linear where there is an `end`, else constant. A constant and the
    original's decay take no notice of `end`, so that a sweep over `curve` alone is possible.
    """

    curve: Literal["constant", "linear", "cosine", "exponential", "step", "original"]
    start: NonNegative
    end: NonNegative | None = None
    steps: Annotated[int, Field(ge=2)] = 2  # step: stairs of equal length, the first at `start`

    @property
    def last(self) -> float:
        """The value that the curve runs to (the original's decay: where it started)."""
        return self.start if self.end is None or self.curve in _ENDLESS else self.end

    @model_validator(mode="before")
    @classmethod
    def _default_curve(cls, value: object) -> object:
        if isinstance(value, Mapping) and "curve" not in value:
            return {**value, "curve": "constant" if value.get("end") is None else "linear"}
        return value

    @model_validator(mode="after")
    def _end_where_it_has_a_meaning(self) -> CurveConfig:
        if self.curve not in _ENDLESS and self.end is None:
            raise ValueError(f"a curve that is {self.curve} needs an end")
        if self.curve == "exponential" and (self.start == 0 or self.end == 0):
            raise ValueError("an exponential curve needs start and end above 0")
        return self


_ENDLESS = ("constant", "original")


def _curve_from_number(value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"curve": "constant", "start": float(value)}
    return value


Curve = Annotated[CurveConfig, BeforeValidator(_curve_from_number)]


class PhaseConfig(Section):
    """Some consecutive epochs with their loss weights, rates and frozen parts."""

    epochs: Positive
    weights: dict[WeightName, Curve] = {}  # a weight that is not named is 0 (segmentation: 1)
    lr_factors: dict[GroupName, NonNegative] = {}  # a group that is not named has 1
    frozen: list[GroupName] = []

    @model_validator(mode="after")
    def _something_to_learn(self) -> PhaseConfig:
        firsts = [curve.start for curve in self.weights.values()]
        lasts = [curve.last for curve in self.weights.values()]
        if "segmentation" in self.weights and not (any(firsts) and any(lasts)):
            raise ValueError("every loss weight is 0 at the first or last epoch: nothing to learn")
        if set(self.frozen) == set(get_args(GroupName)):
            raise ValueError("every part is frozen: nothing left to train")
        return self


class UncertaintyConfig(Section):
    """Homoscedastic uncertainty (Kendall 2018): learned with the network, at its rate."""

    name: Literal["uncertainty"]


class DwaConfig(Section):
    """Dynamic weight average (Liu 2019): by how fast each term fell over the last two epochs."""

    name: Literal["dwa"]
    temperature: Annotated[float, Field(gt=0.0)] = 2.0  # higher: more equal weights


class GradNormConfig(Section):
    """GradNorm (Chen 2018): equal gradient norms, moved towards the terms that learn slowly."""

    name: Literal["gradnorm"]
    alpha: NonNegative = 1.5  # restoring force
    lr: Annotated[float, Field(gt=0.0)] = 0.025  # rate of the weights' own descent


AdaptiveConfig = Annotated[
    UncertaintyConfig | DwaConfig | GradNormConfig, Field(discriminator="name")
]


class ScheduleConfig(Section):
    """Phases in order; `total_epochs` stretches or shrinks them all in proportion."""

    name: str
    phases: Annotated[dict[str, PhaseConfig], Field(min_length=1)]
    total_epochs: Positive | None = None  # null: the sum of the phases
    adaptive: AdaptiveConfig | None = None  # learned multipliers of the weights above

    @model_validator(mode="after")
    def _room_for_every_phase(self) -> ScheduleConfig:
        if self.total_epochs is not None and self.total_epochs < len(self.phases):
            raise ValueError(
                f"total_epochs={self.total_epochs} is fewer than the {len(self.phases)} phases"
            )
        return self


# --- optimisation, callbacks, trainer, logger, run ---------------------------------------------


class LrScheduleConfig(Section):
    """Learning-rate factor over the whole run, a pure function of its progress."""

    kind: Literal["constant", "cosine", "linear", "poly", "step"] = "cosine"
    warmup_epochs: NonNegative = 1.0  # at most half of the run
    min_factor: Fraction = 0.01  # where warm-up starts and decay ends
    power: Annotated[float, Field(gt=0.0)] = 0.9  # poly
    milestones: list[Fraction] = [0.6, 0.85]  # step: shares of the run
    factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1  # step: at each milestone


class OptimConfig(Section):
    """AdamW over three parameter groups, with gradient clipping."""

    lr: Annotated[float, Field(gt=0.0)] = 1e-3
    weight_decay: NonNegative = 1e-2
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    lr_factors: dict[GroupName, NonNegative] = {"attention": 2.0, "head": 1.0, "backbone": 0.1}
    gradient_clip_norm: NonNegative | None = 1.0
    lr_schedule: LrScheduleConfig = LrScheduleConfig()


class EarlyStoppingConfig(Section):
    """Patience counted within a phase; no stop before the last phase unless asked."""

    enabled: bool = True
    monitor: str = "val/dice_positive"
    mode: Literal["min", "max"] = "max"
    patience: Positive = 25
    min_delta: NonNegative = 0.0
    last_phase_only: bool = True


class CheckpointConfig(Section):
    """best.ckpt by the monitored metric, last.ckpt every epoch (and every n steps)."""

    monitor: str = "val/dice_positive"
    mode: Literal["min", "max"] = "max"
    every_n_steps: Positive | None = None


class EmaConfig(Section):
    """Exponential moving average of the weights, used for validation and kept in checkpoints."""

    enabled: bool = False
    decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.99


class OverlaysConfig(Section):
    """Pictures of fixed validation cases during training."""

    every_n_epochs: Annotated[int, Field(ge=0)] = 10  # 0: only at the end
    n_cases: Positive = 4


class CallbacksConfig(Section):
    """What watches a training run."""

    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    ema: EmaConfig = EmaConfig()
    overlays: OverlaysConfig = OverlaysConfig()
    stop_on_non_finite: bool = True


class TrainerConfig(Section):
    """Lightning's Trainer: the arguments that make sense here, by their own names."""

    accelerator: str = "auto"
    devices: int | str | list[int] = 1
    num_nodes: Positive = 1
    strategy: str = "auto"
    precision: str = "32-true"
    max_epochs: Positive | None = None  # null: as long as the schedule; fewer stops early
    accumulate_grad_batches: Positive = 1
    check_val_every_n_epoch: Positive = 1
    limit_train_batches: Annotated[int | float, Field(gt=0)] | None = None
    limit_val_batches: int | float | None = None
    deterministic: bool | Literal["warn"] = True
    benchmark: bool = False
    compile: bool = False
    channels_last: bool = False
    num_threads: Positive | None = None  # null: torch's own choice
    progress_bar: bool = True


class LoggerConfig(Section):
    """A logger beside the run's own ledger (metrics.csv), which is always written."""

    name: Literal["none", "wandb", "tensorboard"] = "none"
    project: str = "attnseg"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = []
    offline: bool | None = None  # wandb; null: offline unless a key is set


def _name_of_a_folder(value: str) -> str:
    if not value or value != value.strip() or value in (".", "..") or {"/", "\\"} & set(value):
        raise ValueError("a folder's name is needed; its place is set by run.root or run.dir")
    return value


RunName = Annotated[str, AfterValidator(_name_of_a_folder)]


class RunConfig(Section):
    """Where a run lives and how it starts."""

    root: str = "runs"
    dir: str | None = None  # null: <root>/<name>-<identity>
    name: RunName | None = None  # null: made of data, model, attention, schedule and seed
    resume: str = "auto"  # auto | none | a run folder | a .ckpt


class TrainConfig(Section):
    """Everything `attnseg train` needs."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    data: AnyData
    model: AnyModel
    attention: AttentionConfig
    loss: LossConfig
    schedule: ScheduleConfig
    optim: OptimConfig
    callbacks: CallbacksConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    run: RunConfig

    @model_validator(mode="after")
    def _every_phase_has_a_loss(self) -> TrainConfig:
        if self.attention.name != "none" and self.model.name != "monai":
            return self
        for name, phase in self.schedule.phases.items():
            segmentation = phase.weights.get("segmentation")
            if segmentation is not None and 0.0 in (segmentation.start, segmentation.last):
                raise ValueError(
                    f"schedule.phases.{name}: the segmentation weight reaches 0, and a model "
                    "without attention has nothing else to learn from; choose schedule=two_phase"
                )
        return self


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


# --- validation ---------------------------------------------------------------------------

SectionT = TypeVar("SectionT", bound=Section)


def validate(config: Mapping[str, Any], schema: type[SectionT]) -> SectionT:
    """Check a composed config (plain containers) against its schema.

    Raises:
        ConfigError: lists every wrong key and value at once, each with its dotted path and,
            for a mistyped key, the nearest right one.
    """
    try:
        return schema.model_validate(dict(config))
    except ValidationError as error:
        lines = [_explain(dict(item), config) for item in error.errors()]
        raise ConfigError(
            "\n".join(["the configuration is wrong:", *(f"  - {x}" for x in lines)])
        ) from None


def _explain(error: dict[str, Any], config: Mapping[str, Any]) -> str:
    """One pydantic error as one line in the user's words."""
    kind = error["type"]
    path = _user_path(error["loc"], config, missing=kind == "missing")
    dotted = ".".join(path)
    if kind == "extra_forbidden":
        known = _known_keys(path[:-1])
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"; did you mean '{'.'.join([*path[:-1], close[0]])}'?" if close else ""
        if path[-1] in known:  # a key of another option of the group, or of another command
            hint = _beside(path[:-1], config)
        hint = hint or (f"; known keys here: {', '.join(sorted(known))}" if known else "")
        return f"{dotted}: no such key{hint}"
    if kind == "missing":
        return f"{dotted}: needed, and not set"
    message = str(error["msg"]).removeprefix("Value error, ")
    if isinstance(error.get("input"), (str, int, float, bool)) or error.get("input") is None:
        message += f" (got {error.get('input')!r})"
    message = f"{message[0].lower()}{message[1:]}"
    return f"{dotted}: {message}" if dotted else message


def _user_path(
    loc: tuple[str | int, ...], config: Mapping[str, Any], *, missing: bool
) -> list[str]:
    """Drop what pydantic adds for unions, so that the path is the one the user typed."""
    path: list[str] = []
    node: Any = config
    for index, part in enumerate(loc):
        inside = isinstance(node, Mapping) and part in node
        if isinstance(node, (list, tuple)) and isinstance(part, int):
            inside = part < len(node)
        if not inside and not (missing and index == len(loc) - 1):
            continue
        path.append(str(part))
        if inside:
            node = node[part]
    return path


def _beside(path: list[str], config: Mapping[str, Any]) -> str:
    """With which option of its group a key does not exist: ` with data=phantom`."""
    node: Any = config
    for part in path:
        node = node[part]
    name = node.get("name") if isinstance(node, Mapping) else None
    return f" with {'.'.join(path)}={name}" if path and name else " here"


def _known_keys(path: list[str]) -> list[str]:
    """The keys that every section reachable at `path` of any command knows."""
    keys: set[str] = set()
    for root in (TrainConfig, AnalyzeConfig, DataCommandConfig):
        for section in _sections_at(root, path):
            keys |= set(section.model_fields)
    return sorted(keys)


def _sections_at(section: type[Section], path: list[str]) -> list[type[Section]]:
    if not path:
        return [section]
    field = section.model_fields.get(path[0])
    if field is None:
        return []
    found: list[type[Section]] = []
    inner, is_dict = _sections_in(field.annotation)
    rest = path[2:] if is_dict else path[1:]
    for candidate in inner:
        found += _sections_at(candidate, rest)
    return found


def _sections_in(annotation: Any) -> tuple[list[type[Section]], bool]:
    """The Section types inside an annotation, and whether a mapping holds them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation], False
    sections: list[type[Section]] = []
    is_dict = getattr(annotation, "__origin__", None) is dict
    for argument in getattr(annotation, "__args__", ()):
        inner, nested = _sections_in(argument)
        sections += inner
        is_dict = is_dict or nested
    return sections, is_dict
