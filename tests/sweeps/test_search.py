"""A search by Optuna: its points, its resume, its workers, pruning, several objectives."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from attnseg.common.errors import FAILED, INTERRUPTED, USER_MISTAKE
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import write_row
from attnseg.sweeps import search
from tests.sweeps.helpers import record, run_folder, states, sweep, sweep_elsewhere

optuna = pytest.importorskip("optuna", reason="the extra [optuna] is missing")

SEARCH = ("sweep=optuna", "optim.lr=tag(log,interval(1e-4,1e-2))")


def study(root: Path) -> Any:
    (path,) = root.glob("sweeps/*/study.db")
    return optuna.load_study(study_name=None, storage=f"sqlite:///{path}")


def points(root: Path) -> list[dict[str, Any]]:
    return [trial.params for trial in study(root).trials]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Trainings that take no time: Dice is best at a rate of 3e-3, overlap at 1e-4."""
    from attnseg.training import fit as module

    seen: list[Any] = []
    monkeypatch.setattr(module, "fit", lambda config: pretend(config, seen))
    return seen


def pretend(config: Any, seen: list[Any], mended: bool = False) -> int:
    from attnseg.runs.identity import identity_record

    seen.append(config)
    folder = RunFolder(Path(config.run.dir))
    folder.path.mkdir(parents=True, exist_ok=True)
    if config.seed == 13 and not mended:
        raise RuntimeError("out of luck")
    lr = config.optim.lr
    for epoch, part in ((1, 0.5), (2, 1.0), (3, 0.8)):
        values = {
            "val/dice_positive": part * (1 - abs(lr - 3e-3) * 100),
            "val/attention_gt_overlap": part * (1 - lr * 50),
        }
        write_row(folder.ledger, {"epoch": epoch, **values})
    best = {"metric": "val/dice_positive", "value": 1.0, "epoch": 2}
    folder.update_status(**identity_record(config), state="finished", epoch=2, best=best)
    return 0


def test_a_search_trains_points_and_tells_what_they_gave(tmp_path: Path, fake: list[Any]) -> None:
    assert sweep(tmp_path, *SEARCH, "attention=drr,supervised", "sweep.n_trials=5") == 0
    assert len(fake) == 5
    assert fake[0].run.sweep.varied == fake[0].run.sweep.varied | {"optim.lr": fake[0].optim.lr}
    for trial in study(tmp_path).trials:
        expected = 1 - abs(trial.params["optim.lr"] - 3e-3) * 100  # at the best epoch
        assert trial.values == [pytest.approx(expected)]
    assert {config.attention.name for config in fake} == {"drr", "supervised"}
    assert len(record(tmp_path)["jobs"]) == 5
    assert sorted(record(tmp_path)["varied"]) == ["attention", "optim.lr"]


def test_a_search_goes_on_without_repeating_a_point(tmp_path: Path, fake: list[Any]) -> None:
    """As an uninterrupted one would: a suggestion depends on the seed and the trials before."""
    assert sweep(tmp_path / "broken", *SEARCH, "sweep.n_trials=3") == 0
    assert sweep(tmp_path / "broken", *SEARCH, "sweep.n_trials=3") == 0
    assert len(fake) == 3
    assert sweep(tmp_path / "broken", *SEARCH, "sweep.n_trials=12") == 0
    assert len({config.optim.lr for config in fake}) == len(fake) == 12
    assert sweep(tmp_path / "whole", *SEARCH, "sweep.n_trials=12") == 0
    assert points(tmp_path / "whole") == points(tmp_path / "broken")


def test_a_small_space_ends_by_itself(
    tmp_path: Path, fake: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_ENOUGH_REPEATS", 6)
    assert sweep(tmp_path, "sweep=optuna", "attention=drr,none", "schedule=none") == 0
    assert len(fake) == 2


def test_a_search_space_in_the_configuration(tmp_path: Path, fake: list[Any]) -> None:
    space = (
        "sweep.search_space={optim.lr:{type:float,low:1e-4,high:1e-2,log:true},"
        "data.batch_size:{type:int,low:1,high:2},attention:{type:categorical,choices:[drr]},"
        "schedule.phases.joint.weights.attention.end:{type:float,low:0.01,high:0.1}}"
    )
    assert sweep(tmp_path, "sweep=optuna", space, "sweep.n_trials=3") == 0
    assert all(config.attention.name == "drr" for config in fake)
    ends = {config.schedule.phases["joint"].weights["attention"].end for config in fake}
    assert len(ends) == 3
    assert all(0.01 <= end <= 0.1 for end in ends)
    assert all(config.data.batch_size in (1, 2) for config in fake)


def test_points_can_be_given(tmp_path: Path, fake: list[Any]) -> None:
    assert sweep(tmp_path, *SEARCH, "sweep.n_trials=2", "sweep.enqueue=[{optim.lr:0.003}]") == 0
    assert fake[0].optim.lr == 0.003


def test_several_objectives_give_a_pareto_front(
    tmp_path: Path, fake: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "sweep=optuna_pareto", SEARCH[1], "sweep.n_trials=6") == 0
    found = study(tmp_path)
    assert len(found.directions) == 2
    assert len(found.trials[0].values) == 2
    fronts = [line for line in capsys.readouterr().out.splitlines() if line.startswith("best:")]
    assert len(fronts) == len(found.best_trials) > 1
    assert "val/attention_gt_overlap" in fronts[0]


def test_a_failed_point_is_retried_by_the_next_start_only(
    tmp_path: Path, fake: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SEARCH, "sweep.n_trials=2", "seed=13")
    assert sweep(tmp_path, *words) == FAILED
    assert len(fake) == 2
    from attnseg.training import fit as module

    monkeypatch.setattr(module, "fit", lambda config: pretend(config, fake, mended=True))
    failed = {str(point) for point in points(tmp_path)}
    for _ in range(2):
        assert sweep(tmp_path, *words) == 0
        assert {str(point) for point in points(tmp_path)} == failed
        assert len(points(tmp_path)) == len(fake) == 4
    assert set(states(tmp_path).values()) == {"finished"}


def test_a_mistyped_objective_is_refused_first(
    tmp_path: Path, fake: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*SEARCH, "sweep.objectives=[{metric:val/dice_positiv}]")
    assert sweep(tmp_path, *words) == USER_MISTAKE
    assert "did you mean val/dice_positive" in capsys.readouterr().err
    assert not fake


def test_pruning_by_several_objectives_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("sweep=optuna_pareto", SEARCH[1], "sweep.pruner.name=median")
    assert sweep(tmp_path, *words) == USER_MISTAKE
    assert "one objective only" in capsys.readouterr().err


def test_a_point_that_cannot_be_composed_fails_alone(tmp_path: Path, fake: list[Any]) -> None:
    words = ("sweep=optuna", "schedule.total_epochs=choice(1,2)", "sweep.n_trials=2")
    assert sweep(tmp_path, *words) == USER_MISTAKE  # one epoch is too few for two phases
    assert sorted(states(tmp_path).values()) == ["finished", "invalid"]


KILL = """
import os, signal
from attnseg.training.callbacks.ledger import LedgerWriter
original = LedgerWriter.on_train_epoch_end
def strike(self, trainer, module):
    original(self, trainer, module)
    if trainer.current_epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
LedgerWriter.on_train_epoch_end = strike
"""


def test_a_killed_workers_trial_is_continued(tmp_path: Path) -> None:
    words = (*SEARCH, "sweep.n_trials=1")
    killed = sweep_elsewhere(tmp_path, *words, before=KILL)
    assert killed.returncode == -signal.SIGKILL
    (open_trial,) = study(tmp_path).trials
    assert open_trial.state.name == "RUNNING"
    assert sweep(tmp_path, *words) == 0
    (told,) = study(tmp_path).trials
    assert told.state.name == "COMPLETE"
    assert told.params == open_trial.params
    (folder,) = (path for path in tmp_path.iterdir() if (path / "status.json").exists())
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3


FAKE = """
from attnseg.training import fit as module
from tests.sweeps.test_search import pretend
module.fit = lambda config: pretend(config, [])
"""


def test_two_workers_share_a_study(tmp_path: Path) -> None:
    words = (*SEARCH, "sweep.n_trials=5")
    workers = [sweep_elsewhere(tmp_path, *words, before=FAKE, wait=False) for _ in range(2)]
    outputs = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    trials = study(tmp_path).trials
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert len({trial.params["optim.lr"] for trial in trials}) == 5
    assert set(states(tmp_path).values()) == {"finished"}


def test_a_trial_that_its_worker_has_just_told_is_not_taken_over(
    tmp_path: Path, fake: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worker tells, and lets go, between this one's list of trials and its lock."""
    original = search.Search._lock
    asked: list[Any] = []

    def lock(self: Any, number: int, *, make: bool) -> Any:
        if not asked:  # a trial of another worker
            asked.append(self.study.ask(search.distributions(self.plan.space)))
        elif number == asked[0].number:
            self.study.tell(number, 0.5)
        return original(self, number, make=make)

    monkeypatch.setattr(search.Search, "_lock", lock)
    assert sweep(tmp_path, *SEARCH, "sweep.n_trials=3") == 0
    assert {trial.state.name for trial in study(tmp_path).trials} == {"COMPLETE"}


def test_an_interrupted_trial_stays_open(
    tmp_path: Path, fake: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.training import fit as module

    def stopped(config: Any) -> int:
        pretend(config, fake)
        RunFolder(Path(config.run.dir)).update_status(state="interrupted")
        return INTERRUPTED

    with monkeypatch.context() as patch:
        patch.setattr(module, "fit", stopped)
        assert sweep(tmp_path, *SEARCH, "sweep.n_trials=2") == INTERRUPTED
    assert len(fake) == 1
    assert sweep(tmp_path, *SEARCH, "sweep.n_trials=2") == 0
    assert len(points(tmp_path)) == 2
    assert fake[1].optim.lr == fake[0].optim.lr


def test_a_storage_can_be_anywhere_and_its_secret_is_not_written(
    tmp_path: Path, fake: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "elsewhere")
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    hidden = url.replace("elsewhere", "$SECRET")
    assert sweep(tmp_path, *SEARCH, "sweep.n_trials=1", f"sweep.storage='{hidden}'") == 0
    (frozen,) = tmp_path.glob("sweeps/*/jobs/*.yaml")
    assert "elsewhere" not in frozen.read_text()
    assert len(optuna.load_study(study_name=None, storage=url).trials) == 1
    assert not list(tmp_path.glob("sweeps/*/study.db"))


def test_a_storage_that_cannot_be_opened_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*SEARCH, "sweep.storage=sqlite:////does/not/exist.db")
    assert sweep(tmp_path, *words) == USER_MISTAKE
    assert "sweep.storage" in capsys.readouterr().err


def test_a_run_that_promises_little_is_pruned(tmp_path: Path) -> None:
    """With the training: the first is the yardstick, the second learns nothing."""
    words = (
        "sweep=optuna",
        "optim.lr=tag(log,interval(1e-12,3e-3))",
        "sweep.enqueue=[{optim.lr:3e-3},{optim.lr:1e-12}]",
        "sweep.n_trials=2",
        "sweep.objectives=[{metric:val/loss/total,direction:minimize}]",
        "sweep.pruner.startup_trials=1",
        "sweep.pruner.warmup_epochs=1",
        "schedule=none",
        "schedule.total_epochs=4",
    )
    assert sweep(tmp_path, *words) == 0
    assert list(states(tmp_path).values()) == ["finished", "pruned"]
    first, second = study(tmp_path).trials
    assert (first.state.name, second.state.name) == ("COMPLETE", "PRUNED")
    name = next(name for name, state in states(tmp_path).items() if state == "pruned")
    folder = RunFolder(run_folder(tmp_path, name))
    status = json.loads(folder.status.read_text())
    assert status["state"] == "pruned"
    assert status["reason"].startswith("pruned after epoch")
    assert folder.last.exists()
    assert 1 < len(folder.ledger.read_text().splitlines()) < 5
    job = next(job for job in record(tmp_path)["jobs"] if job["state"] == "pruned")
    assert job["exit_code"] == 0


def test_a_sweeps_root_may_have_any_name(tmp_path: Path, fake: list[Any]) -> None:
    root = tmp_path / "患者 #[1](x) {y} 'a' \"b\" & ! ~; lr=1,s=2 $H 100%?"
    assert sweep(root, *SEARCH, "sweep.n_trials=1") == 0
    assert sweep(root / "grid", "seed=1,2") == 0
    assert len(fake) == 3
    assert len(list(root.glob("sweeps/*/study.db"))) == 1
