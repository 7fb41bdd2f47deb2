"""Metrics of somebody else's package, and torchmetrics' own: trained with, watched, evaluated."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics import Metric
from torchmetrics.classification import BinaryAUROC

from attnseg.cli import main
from attnseg.common.errors import ConfigError
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.metrics.batch import Batch
from attnseg.metrics.named import NamedMetrics
from attnseg.nn.output import DualPathwayOutput
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_identity
from attnseg.runs.ledger import read_ledger
from attnseg.training.launch import launch
from tests.conftest import TINY

PARTS = '''
import torch
from torchmetrics import Metric


class Rough(Metric):
    """Mean absolute error of the probability."""

    higher_is_better = False
    unit = "share"
    definition = "mean distance of probability and mask"

    def __init__(self, power: float = 1.0):
        super().__init__()
        self.power = power
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("cases", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output, batch):
        assert len(batch.case_ids) == len(batch.patient_ids) == len(batch.mask)
        assert batch.spacing.shape == (len(batch.mask), 2)
        assert batch.prior is batch.ignore is batch.known_nodules is None
        wrong = (output.mask_logits.sigmoid() - batch.mask).abs() ** self.power
        self.total += wrong.mean((1, 2, 3)).double().sum()
        self.cases += len(batch.mask)

    def compute(self):
        return self.total / self.cases


class Brightest(Metric):
    """The images' extremes; two values."""

    def __init__(self):
        super().__init__()
        self.add_state("values", [], dist_reduce_fx="cat")

    def update(self, batch):
        self.values.append(batch.xray.flatten(1).amax(1))

    def compute(self):
        from torchmetrics.utilities import dim_zero_cat
        values = dim_zero_cat(self.values)
        return {"top": values.max(), "low": float(values.min())}


class Undefined(Rough):
    higher_is_better = None

    def compute(self):
        return torch.tensor(float("nan"))


class Broken(Rough):
    def update(self, output, batch):
        torch.cat([batch.mask, "a"])


class Vector(Rough):
    def compute(self):
        return torch.zeros(3)


class Stateless(Metric):
    def update(self, output, batch):
        pass

    def compute(self):
        return 1.0


class Asking(Rough):
    def update(self, output, lungs):
        pass


class NoMetric:
    pass
'''
AUROC = "metrics.auroc={_target_: torchmetrics.classification.BinaryAUROC, thresholds: 50}"
OWN = (
    "metrics.rough._target_=mylab.measures.Rough",
    "metrics.rough.power=2",
    "metrics.bright._target_=mylab.measures.Brightest",
    AUROC,
)
WATCHED = (
    "callbacks.checkpoint.monitor=val/rough",
    "callbacks.checkpoint.mode=min",
    "callbacks.early_stopping.monitor=val/bright_top",
)


@pytest.fixture(scope="module")
def mylab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "mylab").mkdir()
    (folder / "mylab" / "__init__.py").touch()
    (folder / "mylab" / "measures.py").write_text(PARTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
        patch.chdir(folder)
        for name in [name for name in sys.modules if name.split(".")[0] == "mylab"]:
            patch.delitem(sys.modules, name)
        yield folder


MORE = ("logger=tensorboard", "metrics.nothing._target_=mylab.measures.Undefined")


@pytest.fixture(scope="module")
def whole(mylab: Path, _own_cache: None) -> RunFolder:
    assert main(["train", *TINY, *OWN, *MORE, *WATCHED, "run.dir=whole"]) == 0
    return RunFolder(Path("whole"))


def composed(*words: str) -> TrainConfig:
    return compose_checked("train", [*TINY, *words], TrainConfig)


def test_they_are_in_the_ledger_and_decide_the_best(whole: RunFolder) -> None:
    rows = read_ledger(whole.ledger)
    rough = [float(row["val/rough"]) for row in rows]
    assert len(rough) == 2 and all(0 < value < 1 for value in rough)
    assert all(0 <= float(row["val/auroc"]) <= 1 and not row["val/nothing"] for row in rows)
    assert all(float(row["val/bright_top"]) >= float(row["val/bright_low"]) for row in rows)
    status = whole.read_status()
    assert status["best"] == {
        "metric": "val/rough",
        "value": min(rough),
        "epoch": 1 + rough.index(min(rough)),
    }
    assert status["measures"]["rough"] == {
        "definition": "mean distance of probability and mask",
        "unit": "share",
        "higher_is_better": False,
    }
    assert status["measures"]["auroc"]["higher_is_better"] is True


def test_a_resume_changes_nothing(whole: RunFolder) -> None:
    words = [*TINY, *OWN, *MORE, *WATCHED, "run.dir=half"]
    assert main(["train", *words, "trainer.max_epochs=1"]) == 0
    assert main(["train", *words]) == 0
    assert Path("half/metrics.csv").read_text() == whole.ledger.read_text()


def test_they_are_evaluated_and_compared(whole: RunFolder) -> None:
    rough = [float(row["val/rough"]) for row in read_ledger(whole.ledger)]
    assert main(["evaluate", "checkpoint=whole", "trust=[mylab]", "n_pictures=0"]) == 0
    measured = Path("whole/evaluate/phantom-val")
    summary = json.loads((measured / "metrics.json").read_text())
    assert summary["rough"] == pytest.approx(min(rough), abs=1e-5)
    assert summary["nothing"] is None and summary["measures"]["rough"]["unit"] == "share"
    told = json.loads((measured / "metrics_definitions.json").read_text())
    assert told["rough"] == "share: mean distance of probability and mask"
    assert told["bright_top"] == "The images' extremes; two values."
    assert main(["compare", "whole", "metrics=[rough,dice_positive]", "evaluate=never"]) == 0
    with Path("compare/compare.csv").open() as stream:
        assert float(next(csv.DictReader(stream))["rough"]) == summary["rough"]
    assert "rough ↓" in Path("compare/compare.html").read_text()


def test_a_file_names_none_that_is_not_trusted(whole: RunFolder) -> None:
    code = (
        "import sys\nfrom attnseg.cli import main\n"
        "assert main(['evaluate', 'checkpoint=whole', 'n_pictures=0', 'output_dir=out']) == 0\n"
        "assert not any(name.startswith('mylab') for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not measured: metrics.rough: refused" in done.stdout
    assert "add trust=[mylab]" in done.stdout
    summary = json.loads(Path("out/metrics.json").read_text())
    assert "auroc" in summary and "rough" not in summary
    new = ["metrics.other._target_=mylab.measures.Rough", "n_pictures=0", "output_dir=out"]
    assert main(["evaluate", "checkpoint=whole", *new]) == 0
    assert "other" in json.loads(Path("out/metrics.json").read_text())


def test_two_processes_measure_like_one(mylab: Path) -> None:
    """Three validation cases: two on one rank, one on the other, at a rate that learns nothing."""
    words = ("data.n_cases=9", "optim.lr=1e-30", "trainer.max_epochs=1", *OWN)
    assert launch(composed(*words, "data.batch_size=4", "run.dir=one")) == 0
    two = ("data.batch_size=2", "trainer=ddp_cpu", *TINY[-2:], "run.dir=two")
    assert launch(composed(*words, *two)) == 0
    one, two_ = (read_ledger(RunFolder(Path(name)).ledger)[0] for name in ("one", "two"))
    for column in ("val/rough", "val/bright_top", "val/bright_low", "val/auroc"):
        assert float(one[column]) == pytest.approx(float(two_[column]), rel=1e-6), column


class Kept(Metric):
    def __init__(self) -> None:
        super().__init__()
        self.add_state("kept", [], dist_reduce_fx="cat")

    def update(self, batch: Batch) -> None:
        self.kept.append(batch.mask.sum((1, 2)).long())

    def compute(self) -> float:
        return float(torch.cat([torch.atleast_2d(one) for one in self._all()]).sum())

    def _all(self) -> list[torch.Tensor]:
        return [self.kept] if isinstance(self.kept, torch.Tensor) else self.kept


def _one_rank(rank: int, folder: str) -> None:
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    metrics = NamedMetrics({"kept": Kept(), "auroc": BinaryAUROC()})
    if rank == 0:
        metrics.update(*_case())
    values = metrics.compute(())
    Path(folder, f"{rank}.json").write_text(json.dumps(values))
    dist.destroy_process_group()


def _case() -> tuple[DualPathwayOutput, Batch]:
    maps = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
    images, spacing = torch.zeros(1, 1, 4, 4), torch.ones(1, 2)
    batch = Batch(images, images, (maps > 0.5).float(), spacing, ["case"], ["patient"])
    return DualPathwayOutput(maps, maps, maps.sigmoid()), batch


def test_a_process_without_a_case_adds_nothing(tmp_path: Path) -> None:
    mp.spawn(_one_rank, args=(str(tmp_path),), nprocs=2)
    by_rank = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert by_rank[0] == by_rank[1] == {"kept": 4.0, "auroc": 1.0}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("metrics.a._target_=mylab.measures.Rough", "metrics.a.pwer=2"),
         "metrics.a.pwer: no such key; did you mean 'metrics.a.power'?"),
        (("metrics.a._target_=mylab.measures.Rough", "metrics.a.power=x"), "a valid number"),
        (("metrics.a.power=2",), "metrics.a: needs a _target_"),
        (("metrics.nss._target_=mylab.measures.Rough",), "nss: choose another name"),
        (("metrics.a._target_=mylab.measures.Ruogh",), "did you mean mylab.measures.Rough?"),
    ],
)  # fmt: skip
def test_mistakes_of_the_configuration_are_told(
    mylab: Path, words: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(ConfigError) as error:
        composed(*words)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("metrics.a._target_=mylab.measures.Broken",), r"fails: TypeError.*measures\.py:\d+"),
        (("metrics.a._target_=mylab.measures.Vector",), r"not a tensor of shape \(3,\)"),
        (("metrics.a._target_=mylab.measures.Stateless",), "keeps no state"),
        (("metrics.a._target_=mylab.measures.Asking",), "asks for lungs; there are output, batch"),
        (("metrics.a._target_=mylab.measures.NoMetric",), "is no torchmetrics.Metric"),
        (("metrics.a._target_=mylab.measures.Rough", "callbacks.checkpoint.monitor=val/b"),
         "checkpoint.monitor=val/b: no such metric"),
        (("metrics.a._target_=mylab.measures.Rough", "callbacks.checkpoint.monitor=val/a"),
         "monitor=val/a: is better where it is lower: give callbacks.checkpoint.mode=min"),
        ((AUROC, "callbacks.checkpoint.monitor=val/auroc", "callbacks.checkpoint.mode=min"),
         "better where it is higher: give callbacks.checkpoint.mode=max"),
    ],
)  # fmt: skip
def test_what_fails_is_one_message(
    mylab: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    reason: str,
) -> None:
    place = f"run.dir={tmp_path}/run"
    assert main(["train", *TINY, *words, place, "trainer.max_epochs=1"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told and re.search(reason, told), told


def test_a_run_is_another_only_by_what_it_is_watched_by(mylab: Path) -> None:
    plain = run_identity(composed())
    assert run_identity(composed(*OWN)) == plain
    watched = [composed(*OWN[:1], *WATCHED[:2], f"metrics.rough.power={power}") for power in (1, 2)]
    assert len({plain, *map(run_identity, watched)}) == 3


def test_a_search_may_be_after_one(mylab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = ("-m", "sweep=optuna", "optim.lr=interval(1e-4,1e-3)", *OWN[:1])
    objective = "sweep.objectives=[{{metric: val/{}, direction: {}}}]"
    for name, direction, reason in (
        ("ruogh", "minimize", "did you mean val/rough"),
        ("rough", "maximize", "give sweep.objectives with direction: minimize"),
    ):
        words = [*TINY, *search, objective.format(name, direction)]
        assert main(["train", *words]) == 2
        assert reason in capsys.readouterr().err


def test_alone_a_metric_is_given_what_it_asks_for() -> None:
    metrics = NamedMetrics({"auroc": BinaryAUROC(), "kept": Kept()})
    metrics.update(*_case())
    assert metrics.compute(()) == {"auroc": 1.0, "kept": 4.0}
    metrics.reset()
    metrics.update(*_case())
    assert not any(math.isnan(value) for value in metrics.compute(()).values())
    with pytest.raises(ConfigError, match="kept is another value's name"):
        metrics.compute({"kept"})


def test_a_batch_has_what_the_data_tell() -> None:
    images: dict[str, Any] = {name: torch.zeros(1, 1, 4, 4) for name in ("xray", "drr", "mask")}
    images |= {"spacing": torch.ones(1, 2), "case_id": ["a"], "patient_id": ["p"]}
    assert Batch.of(images, "cpu").prior is None
    assert Batch.of(images | {"prior": torch.zeros(1, 2, 4, 4)}, "cpu").prior is not None
