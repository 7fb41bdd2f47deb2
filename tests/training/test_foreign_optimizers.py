"""Optimizers and LR schedules of torch and of anybody: groups, phases and exact resume on top."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from attnseg.cli import main
from attnseg.common.errors import INTERRUPTED, ConfigError
from attnseg.config import TrainConfig, validate
from attnseg.config.compose import compose_checked
from attnseg.runs.checkpoints import read_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import defining_keys, run_ids
from attnseg.runs.ledger import read_ledger
from attnseg.training.callbacks.phase_switching import PhaseSwitching
from attnseg.training.fit import fit
from attnseg.training.module import AttnSegModule
from attnseg.training.optimizers import group_of
from tests.conftest import TINY, configure
from tests.exactness import assert_equal_runs
from tests.foreign import package
from tests.training.test_exact_resume import stopped_at

PARTS = '''
import torch


class Signed(torch.optim.Optimizer):
    """Steps of a sign, with a memory that it keeps in its state."""

    def __init__(self, params, lr: float = 1e-4, memory: float = 0.9):
        super().__init__(params, {"lr": lr, "memory": memory, "weight_decay": 0.1})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                seen = self.state[p].setdefault("seen", torch.zeros_like(p))
                seen.mul_(group["memory"]).add_(p.grad)
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * seen.sign())
        return loss


class Hungry(torch.optim.LBFGS):
    def __init__(self, params, lr: float = 1.0):
        super().__init__(params, lr=lr)


class Watching(torch.optim.lr_scheduler.ReduceLROnPlateau):
    def __init__(self, optimizer, factor: float = 0.5):
        super().__init__(optimizer, factor=factor)


def saw(progress, total_epochs, teeth: int = 2):
    return 1 - (progress * teeth / total_epochs) % 1


class Halving:
    """Made once, called at each step."""

    def __init__(self, every: float = 1.0):
        self.every = every

    def __call__(self, progress):
        return 0.5 ** (progress // self.every)


def lost(progress):
    return float("nan")


def no_optimizer(params, lr: float = 1.0):
    return object()


class Unfinished(torch.optim.SGD):
    def __init__(self, params, lr: float = 1.0):
        raise KeyError("here")
'''
SGD = ("optim._target_=torch.optim.SGD", "optim.momentum=0.9", "optim.lr=0.01")
ONE_CYCLE = (
    "optim.lr_schedule._target_=torch.optim.lr_scheduler.OneCycleLR",
    "optim.lr_schedule.max_lr=0.02",
)
SIGNED = ("optim._target_=mylab.parts.Signed", "optim.memory=0.8")
SAW = ("optim.lr_schedule._target_=mylab.parts.saw", "optim.lr_schedule.teeth=3")


@pytest.fixture(autouse=True)
def mylab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with package(tmp_path_factory.mktemp("lab"), PARTS) as folder:
        yield folder


def composed(*words: str) -> TrainConfig:
    return compose_checked("train", words, TrainConfig)


def test_groups_and_decay_are_on_top_of_any(tmp_path: Path) -> None:
    words = (*SGD, "optim.weight_decay=0.2", "optim.lr_factors.backbone=0.5")
    config = configure(tmp_path, *words)
    optimizer = AttnSegModule(config).configure_optimizers()
    assert type(optimizer) is torch.optim.SGD
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.2 if parameter.ndim > 1 else 0.0)
        assert (group["lr"], group["momentum"]) == (0.01, 0.9)
    names = [str(group["name"]) for group in optimizer.param_groups]
    assert len(set(names)) == len(names)  # Lightning's LearningRateMonitor wants it
    assert {group_of(group) for group in optimizer.param_groups} == {
        "attention", "head", "backbone"
    }  # fmt: skip
    plain = config.model_dump(mode="json")["optim"]
    assert plain["lr_factors"]["backbone"] == 0.5 and "betas" not in plain
    signed = AttnSegModule(configure(tmp_path, *SIGNED)).configure_optimizers()
    assert {group["memory"] for group in signed.param_groups} == {0.8}
    assert {group["weight_decay"] for group in signed.param_groups} == {0.1, 0.0}


def test_what_an_experiment_says_of_groups_stays_when_the_optimizer_is_replaced() -> None:
    config = composed("experiment=lidc_drr", "data.root=x", *SGD)
    before = composed("experiment=lidc_drr", "data.root=x").optim
    assert config.optim.lr_factors == before.lr_factors
    assert config.optim.lr_schedule == before.lr_schedule


@pytest.mark.parametrize(
    ("words", "step"), [((*SGD, *ONE_CYCLE), 3), ((*SIGNED, *SAW), 1)], ids=["torch", "own"]
)
def test_a_resumed_run_is_the_run_to_the_bit(
    words: tuple[str, ...], step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, halves = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "halves")
    assert fit(configure(whole.path, *words)) == 0
    with stopped_at(step, monkeypatch):
        assert fit(configure(halves.path, *words)) == INTERRUPTED
    assert fit(configure(halves.path, *words)) == 0
    assert_equal_runs(whole, halves)
    rates = [float(row["lr/head"]) for row in read_ledger(whole.ledger)]
    if words[0] == SGD[0]:  # 2 steps an epoch
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.01, momentum=0.9)
        steps = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=4)
        expected = [steps.get_last_lr()[0]]
        for _ in range(2):
            optimizer.step()
            steps.step()
        expected.append(steps.get_last_lr()[0])
        (state,) = read_checkpoint(whole.last)["optimizer_states"]
        assert state["param_groups"][0]["momentum"] == pytest.approx(0.95)  # cycled, at its end
    else:
        expected = [1e-4, 0.5e-4]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("optim._target_=torch.optim.LBFGS",), "optim: torch.optim.lbfgs.LBFGS needs a closure"),
        (("optim.lr_schedule._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",),
         "ReduceLROnPlateau needs a metric"),
        ((*SGD, "optim.momentun=1"), "optim.momentun: no such key; did you mean 'optim.momentum'?"),
        ((*SGD, "optim.betas=[0.9,0.9]"), "optim.betas: no such key with optim=SGD (adamw has it)"),
        (("optim._target_=torch.optim.SGD", "optim.lr=0"), "optim.lr: input should be greater"),
        (("optim._target_=mylab.parts.saw",), "optim.lr: needed, and not set"),
        (("optim.lr_schedule.kind=cosin",), "did you mean 'cosine'?"),
        (("optim.lr_schedule.power=2",), "optim.lr_schedule.power: no such key with"),
        (("optim.lr_schedule.kind=step", "optim.lr_schedule.factor=2"), "less than or equal to 1"),
        ((*ONE_CYCLE, "optim.lr_schedule.interval=week"), "lr_schedule.interval: input should be"),
        (ONE_CYCLE[:1], "optim.lr_schedule.max_lr: needed, and not set"),
    ],
)  # fmt: skip
def test_mistakes_are_told(words: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        composed(*words)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("optim._target_=mylab.parts.Hungry",), "mylab.parts.Hungry needs a closure"),
        (("optim._target_=mylab.parts.no_optimizer",), "makes no torch.optim.Optimizer"),
        (("optim._target_=mylab.parts.Unfinished",), "Unfinished fails: KeyError: 'here' at "),
        (("optim.lr_schedule._target_=mylab.parts.Watching",), "missing 1 required positional "),
        (("optim.lr_schedule._target_=mylab.parts.lost",), "optim.lr_schedule: gives nan times"),
        (("optim.lr_schedule._target_=torch.optim.lr_scheduler.LambdaLR",
          "optim.lr_schedule.lr_lambda=x"), "LambdaLR fails: TypeError"),
    ],
)  # fmt: skip
def test_what_only_the_class_tells_stops_before_the_first_step(
    words: tuple[str, ...], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *TINY, *words, f"run.dir={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err
    assert reason in told and "Traceback" not in told


def test_a_class_of_ones_own_sets_the_rates(tmp_path: Path) -> None:
    words = ("optim.lr_schedule._target_=mylab.parts.Halving", "optim.lr_schedule.every=0.5")
    switching = PhaseSwitching(configure(tmp_path, *words, "optim.lr=1e-3"))
    rates = [switching.learning_rates(0, progress)["head"] for progress in (0.0, 0.5, 1.0)]
    assert rates == pytest.approx([1e-3, 1e-3 / 2, 1e-3 / 4])


def test_a_rate_schedule_of_before_is_read_without_what_its_shape_has_not() -> None:
    config = composed()
    plain = config.model_dump(mode="json")
    plain["optim"]["lr_schedule"] |= {"power": 0.9, "milestones": [0.6, 0.85], "factor": 0.1}
    assert defining_keys(plain) == defining_keys(config.model_dump(mode="json"))
    again = validate(plain, TrainConfig)
    assert set(again.optim.lr_schedule.options) == {"warmup_epochs", "min_factor"}
    assert run_ids(again) == run_ids(config)


def test_a_fork_keeps_its_optimizer(tmp_path: Path) -> None:
    assert fit(configure(tmp_path / "a", *SGD, "trainer.max_epochs=1")) == 0
    go_on = (f"fork={tmp_path / 'a'}", *SGD)
    with pytest.raises(ConfigError, match=r"optim\.momentum: 0\.9 -> 0\.5"):
        fit(configure(tmp_path / "b", *go_on, "optim.momentum=0.5", "optim.lr=0.1"))
