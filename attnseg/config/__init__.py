"""The typed schema of every command's configuration, and the checks across fields.

Hydra composes `conf/`; what comes out is validated here. Two facts made this the place for it
rather than dataclasses in Hydra's ConfigStore: `+trainer.max_epoch=3` slips past structured
configs, and a user wants every mistake listed at once. Nothing heavy is imported, so a
mistyped key costs no import of torch.
"""

from __future__ import annotations

from attnseg.component import GroupName, Norm, WeightName
from attnseg.config.base import Section
from attnseg.config.commands import (
    AnalyzeConfig,
    CompareConfig,
    DataBuildConfig,
    DataCommandConfig,
    DataMaskConfig,
    EvaluateConfig,
    ExportConfig,
    PredictConfig,
    RunsListConfig,
    RunsPruneConfig,
    RunsShowConfig,
    SyncConfig,
)
from attnseg.config.component import Component, component
from attnseg.config.data import (
    AugmentConfig,
    DataConfig,
    PatchConfig,
    SplitConfig,
    SyntheticConfig,
)
from attnseg.config.drr import DrrConfig, ProjectionConfig
from attnseg.config.model import AnyAttention, AnyModel
from attnseg.config.objective import (
    Curve,
    LossConfig,
    PhaseConfig,
    ScheduleConfig,
)
from attnseg.config.sweep import (
    AnySweep,
    CategoricalSpace,
    FloatSpace,
    GridSweepConfig,
    IntSpace,
    LauncherConfig,
    ObjectiveConfig,
    OptunaSweepConfig,
    PrunerConfig,
    Space,
    TrialConfig,
)
from attnseg.config.training import (
    CallbacksConfig,
    CheckpointConfig,
    EarlyStoppingConfig,
    EmaConfig,
    LoggerConfig,
    OptimConfig,
    OverlaysConfig,
    RunConfig,
    RunName,
    SweepMembership,
    TrainConfig,
    TrainerConfig,
)
from attnseg.config.validation import validate

__all__ = [
    "AnalyzeConfig",
    "AnyAttention",
    "AnyModel",
    "AnySweep",
    "AugmentConfig",
    "CallbacksConfig",
    "CategoricalSpace",
    "CheckpointConfig",
    "CompareConfig",
    "Component",
    "Curve",
    "DataBuildConfig",
    "DataCommandConfig",
    "DataConfig",
    "DataMaskConfig",
    "DrrConfig",
    "EarlyStoppingConfig",
    "EmaConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FloatSpace",
    "GridSweepConfig",
    "GroupName",
    "IntSpace",
    "LauncherConfig",
    "LoggerConfig",
    "LossConfig",
    "Norm",
    "ObjectiveConfig",
    "OptimConfig",
    "OptunaSweepConfig",
    "OverlaysConfig",
    "PatchConfig",
    "PhaseConfig",
    "PredictConfig",
    "ProjectionConfig",
    "PrunerConfig",
    "RunConfig",
    "RunName",
    "RunsListConfig",
    "RunsPruneConfig",
    "RunsShowConfig",
    "ScheduleConfig",
    "Section",
    "Space",
    "SplitConfig",
    "SweepMembership",
    "SyncConfig",
    "SyntheticConfig",
    "TrainConfig",
    "TrainerConfig",
    "TrialConfig",
    "WeightName",
    "component",
    "validate",
]
