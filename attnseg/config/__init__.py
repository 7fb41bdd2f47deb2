"""The typed schema of every command's configuration, and the checks across fields.

Hydra composes `conf/`; what comes out is validated here. Two facts made this the place for it
rather than dataclasses in Hydra's ConfigStore: `+trainer.max_epoch=3` slips past structured
configs, and a user wants every mistake listed at once. Nothing heavy is imported, so a
mistyped key costs no import of torch.
"""

from __future__ import annotations

from attnseg.config.base import GroupName, Norm, Section, WeightName
from attnseg.config.commands import (
    AnalyzeConfig,
    CompareConfig,
    DataCommandConfig,
    EvaluateConfig,
    ExportConfig,
    RunsListConfig,
    RunsPruneConfig,
    RunsShowConfig,
    SyncConfig,
)
from attnseg.config.data import (
    AnyData,
    AugmentConfig,
    DataConfig,
    LidcDrrDataConfig,
    ManifestDataConfig,
    PatchConfig,
    PhantomDataConfig,
    SplitConfig,
)
from attnseg.config.model import (
    AnyModel,
    AttentionConfig,
    DualPathwayConfig,
    EncoderConfig,
    FusionConfig,
    MonaiModelConfig,
    OriginalModelConfig,
)
from attnseg.config.objective import (
    AdaptiveConfig,
    AlignmentLossConfig,
    AttentionLossConfig,
    Curve,
    CurveConfig,
    DwaConfig,
    GradNormConfig,
    LossConfig,
    PhaseConfig,
    ScheduleConfig,
    SegmentationLossConfig,
    UncertaintyConfig,
)
from attnseg.config.training import (
    CallbacksConfig,
    CheckpointConfig,
    EarlyStoppingConfig,
    EmaConfig,
    LoggerConfig,
    LrScheduleConfig,
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
    "AdaptiveConfig",
    "AlignmentLossConfig",
    "AnalyzeConfig",
    "AnyData",
    "AnyModel",
    "AttentionConfig",
    "AttentionLossConfig",
    "AugmentConfig",
    "CallbacksConfig",
    "CheckpointConfig",
    "CompareConfig",
    "Curve",
    "CurveConfig",
    "DataCommandConfig",
    "DataConfig",
    "DualPathwayConfig",
    "DwaConfig",
    "EarlyStoppingConfig",
    "EmaConfig",
    "EncoderConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FusionConfig",
    "GradNormConfig",
    "GroupName",
    "LidcDrrDataConfig",
    "LoggerConfig",
    "LossConfig",
    "LrScheduleConfig",
    "ManifestDataConfig",
    "MonaiModelConfig",
    "Norm",
    "OptimConfig",
    "OriginalModelConfig",
    "OverlaysConfig",
    "PatchConfig",
    "PhantomDataConfig",
    "PhaseConfig",
    "RunConfig",
    "RunName",
    "RunsListConfig",
    "RunsPruneConfig",
    "RunsShowConfig",
    "ScheduleConfig",
    "Section",
    "SegmentationLossConfig",
    "SplitConfig",
    "SweepMembership",
    "SyncConfig",
    "TrainConfig",
    "TrainerConfig",
    "UncertaintyConfig",
    "WeightName",
    "validate",
]
