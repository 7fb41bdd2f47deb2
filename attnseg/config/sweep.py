"""How `attnseg train -m` starts its jobs, and which runs it makes: a grid, or a search."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from attnseg.config.base import Positive, Section


class LauncherConfig(Section):
    """What starts the jobs of a sweep: one of Hydra's launchers."""

    name: Literal["basic", "joblib", "submitit_local", "submitit_slurm", "ray"] = "basic"
    n_jobs: Positive = 1  # at once; basic runs one after the other whatever it is
    threads: Positive | None = None  # CPU threads of a job; null: the cores shared out evenly
    options: dict[str, Any] = {}  # of the launcher itself: what `hydra.launcher` takes

    @model_validator(mode="after")
    def _basic_is_serial(self) -> LauncherConfig:
        if self.name == "basic" and self.n_jobs > 1:
            raise ValueError("launcher=basic runs one job at a time; choose launcher=joblib")
        return self


class CategoricalSpace(Section):
    """One of some values."""

    type: Literal["categorical"]
    choices: Annotated[list[str | bool | int | float | None], Field(min_length=1)]


class IntSpace(Section):
    """A whole number from low to high, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: Positive = 1
    log: bool = False

    @model_validator(mode="after")
    def _a_range(self) -> IntSpace:
        _refuse_bad_range(self.low, self.high, self.log, stepped=self.step != 1)
        return self


class FloatSpace(Section):
    """A number from low to high."""

    type: Literal["float"]
    low: float
    high: float
    step: Annotated[float, Field(gt=0.0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _a_range(self) -> FloatSpace:
        _refuse_bad_range(self.low, self.high, self.log, stepped=self.step is not None)
        return self


def _refuse_bad_range(low: float, high: float, log: bool, *, stepped: bool) -> None:
    if low > high:
        raise ValueError(f"low ({low:g}) is above high ({high:g})")
    if log and low <= 0:
        raise ValueError(f"a logarithmic range begins above 0, not at {low:g}")
    if log and stepped:
        raise ValueError("a logarithmic range has no step")


Space = Annotated[CategoricalSpace | IntSpace | FloatSpace, Field(discriminator="type")]


class ObjectiveConfig(Section):
    """What a search is after: a column of metrics.csv."""

    metric: str
    direction: Literal["maximize", "minimize"] = "maximize"


class PrunerConfig(Section):
    """When a run that promises little is given up."""

    name: Literal["none", "median", "percentile", "successive_halving", "hyperband"] = "median"
    startup_trials: Annotated[int, Field(ge=0)] = 5  # median, percentile: none is pruned before
    warmup_epochs: Annotated[int, Field(ge=0)] = 5  # no run is pruned earlier
    percentile: Annotated[float, Field(gt=0.0, le=100.0)] = 50.0  # of the others, to keep


class TrialConfig(Section):
    """The trial that a run is: `attnseg train -m` writes it, a user never does."""

    study: str
    storage: str | None = None  # null: that of the sweep
    number: int


class GridSweepConfig(Section):
    """Every combination of the values given on the command line."""

    name: Literal["grid"] = "grid"
    title: str | None = None  # null: the experiment, or what varies
    fail_fast: bool = False  # true: the first failure stops the sweep


class OptunaSweepConfig(Section):
    """A search by Optuna."""

    name: Literal["optuna"]
    title: str | None = None
    fail_fast: bool = False
    n_trials: Positive = 30  # different points; the same command with more goes on
    seed: int = 0  # of the sampler
    sampler: Literal["tpe", "random"] = "tpe"
    startup_trials: Annotated[int, Field(ge=0)] = 10  # random ones before TPE has its say
    objectives: Annotated[list[ObjectiveConfig], Field(min_length=1)]
    at: Literal["best", "last"] = "best"  # the epoch of best.ckpt, or the last one
    pruner: PrunerConfig = PrunerConfig()
    storage: str | None = None  # an RDB URL; null: SQLite in the sweep's folder
    search_space: dict[str, Space] = {}
    enqueue: list[dict[str, Any]] = []  # points to try first
    trial: TrialConfig | None = None

    @model_validator(mode="after")
    def _one_objective_to_prune_by(self) -> OptunaSweepConfig:
        if len(self.objectives) > 1 and self.pruner.name != "none":
            raise ValueError(
                "Optuna prunes by one objective only; with several, sweep.pruner.name=none"
            )
        return self


AnySweep = Annotated[GridSweepConfig | OptunaSweepConfig, Field(discriminator="name")]
