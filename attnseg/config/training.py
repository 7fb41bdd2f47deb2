"""Optimisation, callbacks, trainer, logger and run: everything `attnseg train` needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    model_validator,
)

from attnseg.component import GroupName
from attnseg.config.base import NonNegative, Positive, Section, Trust
from attnseg.config.component import TARGET, Component, beside, by_target, component, slot
from attnseg.config.data import AnyData
from attnseg.config.lightning import REFUSED, checked, trainer_options
from attnseg.config.metrics import Metrics
from attnseg.config.model import AnyAttention, AnyModel
from attnseg.config.objective import LossConfig, ScheduleConfig, ends_of
from attnseg.config.signatures import needed_by
from attnseg.config.sweep import AnySweep, GridSweepConfig, LauncherConfig


@beside("lr_schedule", where="optimizer")
class SchedulerConfig(Component):
    """What is told of one of torch's schedulers beside its own options."""

    interval: Literal["epoch", "step"] | None = None  # null: step where it asks for total_steps

    @property
    def per_step(self) -> bool:
        """Whether it steps with the optimizer, not with the epochs."""
        asked = "total_steps" in self.signature.asks_for
        return self.interval == "step" or (self.interval is None and asked)

    @model_validator(mode="after")
    def _knows_without_a_metric(self) -> SchedulerConfig:
        if "metrics" in needed_by(self.target, "step"):
            raise ValueError(needs_metric(self.target))
        return self


@beside("optim")
class OptimConfig(Component):
    """What is told of any optimizer beside its own options."""

    lr: Annotated[float, Field(gt=0.0)]
    lr_factors: dict[GroupName, NonNegative] = {  # on lr, by group; times the phase's
        "attention": 2.0,
        "head": 1.0,
        "backbone": 0.1,
    }
    gradient_clip_norm: NonNegative | None = 1.0  # null: no clipping
    lr_schedule: Annotated[SerializeAsAny[Component], slot("lr_schedule")] = Field(
        default_factory=lambda: component("lr_schedule", {})
    )

    @property
    def options(self) -> dict[str, Any]:
        """Those of any component, and the rate."""
        return {**super().options, "lr": self.lr}

    @model_validator(mode="after")
    def _can_be_driven(self) -> OptimConfig:
        if "lr" not in self.signature.options and not self.signature.open:
            raise ValueError(f"{self.target} has no lr, which groups and lr_schedule act on")
        if "closure" in needed_by(self.target, "step"):
            raise ValueError(needs_closure(self.target))
        return self


def needs_closure(target: str) -> str:
    """Why an optimizer is refused that evaluates the loss by itself."""
    return (
        f"{target} needs a closure: it evaluates the loss several times a step, where random "
        "draws, clipping and what is recorded are those of one; choose another optimizer"
    )


def needs_metric(target: str) -> str:
    """Why a scheduler is refused that is no function of the step."""
    return (
        f"{target} needs a metric: what it does depends on what was measured before, and here a "
        "rate follows from the step alone, so that a resumed run is the same run; choose a "
        "scheduler without one"
    )


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
    """What watches a training run: ours, and any of Lightning's or anybody's under a free name."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Annotated[SerializeAsAny[Component], by_target("callback")]]

    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    ema: EmaConfig = EmaConfig()
    overlays: OverlaysConfig = OverlaysConfig()
    train_metrics_every_n_steps: Positive = 1  # of an epoch, counted from its first
    stop_on_non_finite: bool = True  # of training's losses; validation and weights always do

    @classmethod
    def further_keys(cls) -> Mapping[str, str]:
        """Any name."""
        return {f"<name>.{TARGET}": "a callback of Lightning's or of anybody"}

    @property
    def others(self) -> dict[str, Component]:
        """Those that are not ours, by name."""
        return dict(self.__pydantic_extra__)


# Lightning's names (a test compares), so that a mistyped one costs no import of it.
Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]
Precision = Literal[
    "32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed",
    "transformer-engine", "transformer-engine-float16", "64", "32", "16", "bf16",
]  # fmt: skip


def _by_name(value: object) -> object:
    """Lightning's numbers: what `trainer.precision=32` means."""
    names = {64: "64-true", 32: "32-true", 16: "16-mixed"}
    return names.get(value, value) if isinstance(value, int) else value


def _known_strategy(value: str) -> str:
    families = ("auto", "ddp", "deepspeed", "fsdp", "single_", "xla")
    if not value.startswith(families):
        raise ValueError("no such strategy; one process: auto, several: ddp")
    return value


class TrainerConfig(Section):
    """Lightning's Trainer, by its own names: these have our defaults, others Lightning's."""

    model_config = ConfigDict(extra="allow")

    accelerator: Accelerator = "auto"
    devices: int | str | list[int] = 1
    num_nodes: Positive = 1
    strategy: Annotated[str, AfterValidator(_known_strategy)] = "auto"
    precision: Annotated[Precision, BeforeValidator(_by_name)] = "32-true"
    max_epochs: Positive | None = None  # null: as long as the schedule; fewer stops early
    accumulate_grad_batches: Positive = 1
    check_val_every_n_epoch: Positive = 1
    limit_train_batches: Annotated[int | float, Field(gt=0)] | None = None
    limit_val_batches: Annotated[int | float, Field(ge=0)] | None = None  # 0: no validation
    deterministic: bool | Literal["warn"] = True
    benchmark: bool = False
    compile: bool = False
    channels_last: bool = False
    num_threads: Positive | None = None  # null: torch's own choice
    reuse_memory: bool = True  # on the CPU
    progress_bar: bool = True

    @classmethod
    def further_keys(cls) -> Mapping[str, str]:
        """Those of Lightning's that are not refused."""
        names = [n for n in trainer_options() if n not in {*REFUSED, *cls.model_fields}]
        return dict.fromkeys(names, "Lightning's")

    @property
    def others(self) -> dict[str, Any]:
        """What else Lightning's Trainer is told."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _lightnings(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        own = {key: value for key, value in given.items() if key in cls.model_fields}
        others = {key: value for key, value in given.items() if key not in own}
        return {**own, **checked(others)} if others else given


@beside("logger", where="save_dir")
class LocalLoggerConfig(Component):
    """What is told of a logger that writes files."""

    save_dir: str | None = None  # null: the run's folder


class LoggerConfig(Section):
    """Loggers beside the run's own ledger (metrics.csv), which is always written; any number.

    Ours, and any of Lightning's or anybody's under a free name.
    """

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Annotated[SerializeAsAny[Component], by_target("logger")]]

    wandb: bool = False
    tensorboard: bool = False
    mlflow: bool = False
    project: str = "attnseg"  # W&B's project, MLflow's experiment
    entity: str | None = None  # wandb: the team; null: the key's own
    group: Annotated[str, Field(min_length=1, max_length=128)] | None = None  # null: the sweep
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] = []  # lengths: W&B's limits
    offline: bool | None = None  # wandb; null: offline unless a key is set
    log_every_n_steps: Annotated[int, Field(ge=0)] = 50  # losses of single steps; 0: none
    log_checkpoint: Literal["none", "best"] = "none"  # wandb: best.ckpt as an artifact
    log_data: bool = False  # wandb: what the data are, by content, as an artifact (no images)
    save_code: bool = False  # wandb: the package's source, and git's diff
    alert_on_failure: bool = False  # wandb: an alert when the run fails by itself
    init_timeout_s: Annotated[float, Field(gt=0.0)] = 30.0  # wandb: then the run goes offline
    finish_timeout_s: Annotated[float, Field(gt=0.0)] = 120.0  # wandb: then the rest stays here
    tracking_uri: str | None = None  # mlflow; null: <run.root>/mlflow.db

    @classmethod
    def further_keys(cls) -> Mapping[str, str]:
        """Any name."""
        return {f"<name>.{TARGET}": "a logger of Lightning's or of anybody"}

    @property
    def others(self) -> dict[str, Component]:
        """Those that are not ours, by name."""
        return dict(self.__pydantic_extra__)

    @model_validator(mode="before")
    @classmethod
    def _one_logger_by_name(cls, given: Any) -> Any:
        """Checkpoints of before there could be several say `name: wandb`."""
        if not (isinstance(given, dict) and "name" in given):
            return given
        rest = {key: value for key, value in given.items() if key != "name"}
        name = given["name"]
        if name not in ("none", "wandb", "tensorboard", "mlflow"):
            raise ValueError(f"name={name}: choose logger=wandb, tensorboard, mlflow or none")
        return rest if name == "none" else {**rest, name: True}


_LONGEST_NAME = 240  # file systems allow 255, and the run's id follows


def _name_of_a_folder(value: str) -> str:
    if not value or value != value.strip() or value in (".", "..") or {"/", "\\"} & set(value):
        raise ValueError("a folder's name is needed; its place is set by run.root or run.dir")
    if len(value.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"a folder's name can have {_LONGEST_NAME} bytes at most, this one has "
            f"{len(value.encode())}"
        )
    return value


RunName = Annotated[str, AfterValidator(_name_of_a_folder)]


class SweepMembership(Section):
    """The sweep a run belongs to: `attnseg train -m` writes it, a user never does."""

    name: str
    id: str
    varied: dict[str, Any] = {}  # the swept keys, with this run's values


class RunConfig(Section):
    """Where a run lives and how it starts."""

    root: str = "runs"
    dir: str | None = None  # null: <root>/<name>-<identity>
    name: RunName | None = None  # null: made of data, model, attention, schedule and seed
    max_restarts: Annotated[int, Field(ge=0)] = 3  # of a group of which a process fell
    grace_s: Positive = 120  # a stopping group has to finish its step and save
    timeout_s: Positive = 600  # how long a process of a group may give no answer (run/default.yaml)
    slurm_requeue: bool = True  # on SIGUSR1 (sbatch --signal=USR1@120), as Lightning does
    sweep: SweepMembership | None = None


class TrainConfig(Section):
    """Everything `attnseg train` needs."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    resume: str = "auto"  # auto | none | a run folder | a .ckpt
    resume_code: Literal["same", "changed"] = "same"  # changed: go on, though the code is another
    fork: str | None = None  # go on from this checkpoint under a changed configuration
    warmstart: str | None = None  # begin with these weights
    origin: str | None = None  # digest of what fork or warmstart names; the run fills it in
    keep_ids: bool = False  # record trained-on patients by their ids, not by salted hashes
    trust: Trust = []
    data_digest: str | None = None  # what the data are made of; the run fills it in
    weights_digest: str | None = None  # of the files of initial weights; the run fills it in
    data: AnyData
    model: AnyModel
    attention: AnyAttention
    loss: LossConfig
    metrics: Metrics = {}  # beside those that are always measured
    schedule: ScheduleConfig
    optim: Annotated[SerializeAsAny[OptimConfig], slot("optim")]
    callbacks: CallbacksConfig
    trainer: TrainerConfig
    logger: LoggerConfig = Field(default_factory=lambda: LoggerConfig.model_validate({}))
    run: RunConfig
    launcher: LauncherConfig = LauncherConfig()
    sweep: AnySweep = GridSweepConfig()

    @property
    def has_attention(self) -> bool:
        """Whether the model is one that takes an attention."""
        return "attention" in self.model.signature.asks_for

    @model_validator(mode="after")
    def _control_has_no_attention(self) -> TrainConfig:
        if not self.has_attention and self.attention.name != "none":
            raise ValueError(
                f"model={self.model.name} is a control without attention, but attention.name is "
                f"'{self.attention.name}': add attention=none"
            )
        return self

    @model_validator(mode="after")
    def _what_is_weighed_is_there(self) -> TrainConfig:
        for name, phase in self.schedule.phases.items():
            if missing := sorted(set(phase.weights) - set(self.loss.names)):
                raise ValueError(
                    f"schedule.phases.{name}.weights.{missing[0]}: the loss has no such term; it "
                    f"has {', '.join(self.loss.names)} (others are loss.terms.<name>)"
                )
        return self

    @model_validator(mode="after")
    def _every_phase_has_a_loss(self) -> TrainConfig:
        if self.has_attention and self.attention.name != "none":
            return self
        for name, phase in self.schedule.phases.items():
            segmentation = phase.weights.get("segmentation")
            if segmentation is not None and 0.0 in (ends_of(segmentation) or ()):
                raise ValueError(
                    f"schedule.phases.{name}: the segmentation weight reaches 0, and a model "
                    "without attention has nothing else to learn from; choose schedule=two_phase"
                )
        return self
