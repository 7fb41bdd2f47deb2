"""What can be refused before torch and Lightning are imported, which takes seconds."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from attnseg.common.errors import ConfigError
from attnseg.common.files import user_path
from attnseg.config import OptunaSweepConfig, TrainConfig
from attnseg.config.measures import ends_told, refuse_unknown, refuse_wrong_end
from attnseg.runs.pretrained import no_such_checkpoint


def refuse_missing_paths(config: TrainConfig) -> None:
    """Refuse a run whose data or checkpoint is not there, in the words of those who read them.

    Raises:
        ConfigError: `data.root` is not set, or not there.
        CheckpointError: `resume` names nothing.
    """
    data = config.data
    root = getattr(data, "root", None)
    there = root is not None and user_path(root).exists()
    if data.registered and not there:
        from attnseg.data.sources import build_source

        build_source(data)
    if config.resume not in ("auto", "none") and not Path(config.resume).exists():
        raise no_such_checkpoint("resume", config.resume)


def refuse_unknown_monitors(config: TrainConfig) -> None:
    """Refuse to watch a metric that there is not, or for its worst value.

    Raises:
        ConfigError: a monitor is none of what a validation of this model gives, or its mode is not
            the metric's.
    """
    watched = monitors_of(config)
    refuse_unknown(
        [(key, name) for key, name, _ in watched],
        has_attention=config.attention.name != "none",
        others=config.metrics,
    )
    refuse_wrong_end(watched, ends_told(config.metrics))


def monitors_of(config: TrainConfig) -> list[tuple[str, str, bool]]:
    """What is watched: the key, the metric, and whether high values are looked for."""
    settings = config.callbacks
    sections = {"checkpoint": settings.checkpoint}
    if settings.early_stopping.enabled:
        sections["early_stopping"] = settings.early_stopping  # type: ignore[assignment]
    return [
        (f"callbacks.{name}.monitor", section.monitor, section.mode == "max")
        for name, section in sections.items()
    ]


def refuse_unknown_objectives(config: TrainConfig) -> None:
    """Refuse a mistyped objective of a search, or one that looks for the worst.

    Raises:
        ConfigError: no validation gives such a metric, or its direction is the other.
    """
    assert isinstance(config.sweep, OptunaSweepConfig)
    key = "sweep.objectives"
    wanted = [(key, one.metric, one.direction == "maximize") for one in config.sweep.objectives]
    names = [(key, name) for key, name, _ in wanted]
    refuse_unknown(names, has_attention=True, others=config.metrics)
    refuse_wrong_end(wanted, ends_told(config.metrics))


def refuse_unusable_precision(config: TrainConfig) -> None:
    """Refuse a precision in which nothing can be trained.

    Raises:
        ConfigError: 16-true, or one of transformer-engine's.
    """
    precision = config.trainer.precision
    if precision == "16-true":
        raise ConfigError(
            "trainer.precision=16-true: with weights in float16 the 1e-8 that AdamW divides by is "
            "0, and the first step makes them NaN; use 16-mixed (a GPU), bf16-mixed or bf16-true"
        )
    if precision.startswith("transformer-engine"):
        raise ConfigError(
            f"trainer.precision={precision}: float8 is for linear layers, and these networks are "
            "convolutions, so that it would change nothing; use bf16-mixed"
        )


def refuse_compiling_without_compiler(config: TrainConfig) -> None:
    """Refuse `trainer.compile` where torch would fail in the first step, with a long traceback.

    Raises:
        ConfigError: there is no C++ compiler where torch looks for one.
    """
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if config.trainer.compile and sys.platform != "win32" and shutil.which(name) is None:
        raise ConfigError(
            f"trainer.compile=true: torch needs a C++ compiler for it, and '{name}' is not on the "
            "PATH: install one (Debian, Ubuntu: apt install g++), name yours in the environment "
            "variable CXX, or leave trainer.compile=false"
        )
