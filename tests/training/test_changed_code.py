"""A run goes on, or counts as finished, under the code that made it; else it says what changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnseg.cli import main
from attnseg.commands.evaluate import main as evaluate
from attnseg.common.errors import INTERRUPTED, USER_MISTAKE, ConfigError
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.runs import code as module
from attnseg.runs.checkpoints import read_checkpoint, save_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.training.fit import fit
from tests.conftest import TINY
from tests.runs.test_source import write
from tests.sweeps.helpers import run_folder, states
from tests.training.test_exact_resume import stopped_at

NETWORK = '''"""A network of a user's own."""

from torch import nn

from ownlab.parts import activation


class Net(nn.Module):
    """A 3x3 convolution."""

    def __init__(self, **options):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), activation(), nn.Conv2d(4, 1, 1))

    def forward(self, image):
        return self.layers(image)
'''
PARTS = "from torch import nn\n\n\ndef activation():\n    return nn.ReLU()\n"
WORDS = [word for word in TINY if not word.startswith(("model.", "attention."))]
WORDS += ["model=basic_unet", "model.network._target_=ownlab.nets.Net", "attention=none"]
WORDS += [
    "schedule=none",
    "data.n_cases=4",
    "schedule.total_epochs=2",
    "data.split.val_fraction=0.5",
]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write(tmp_path, {"ownlab/__init__.py": "", "ownlab/nets.py": NETWORK, "ownlab/parts.py": PARTS})
    monkeypatch.syspath_prepend(str(tmp_path))
    module._homes.cache_clear()
    yield tmp_path / "ownlab"
    forget()


def forget() -> None:
    """As a new process would know the modules: not at all."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ownlab"]:
        del sys.modules[name]


def train(folder: RunFolder, *words: str) -> int:
    forget()
    command = [*WORDS, f"run.dir={folder.path}", *words]
    return fit(compose_checked("train", command, TrainConfig))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.fixture
def stopped(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that was stopped after a step."""
    folder = RunFolder(tmp_path / "run")
    with stopped_at(1, monkeypatch):
        assert train(folder) == INTERRUPTED
    return folder


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [("nets.py", "activation()", "nn.Tanh()"), ("parts.py", "ReLU", "Tanh")],
)
def test_a_changed_network_or_a_module_beside_it_is_not_resumed(
    stopped: RunFolder, lab: Path, file: str, old: str, new: str
) -> None:
    edit(lab / file, old, new)
    before = stopped.status.read_bytes(), stopped.last.read_bytes()
    with pytest.raises(ConfigError, match=rf"changed since: ownlab/{file}\. .*resume_code=changed"):
        train(stopped)
    assert (stopped.status.read_bytes(), stopped.last.read_bytes()) == before


def test_resume_code_changed_goes_on_and_says_so(
    stopped: RunFolder, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    then = stopped.read_status()["code"]
    edit(lab / "parts.py", "ReLU", "Tanh")
    assert train(stopped, "resume_code=changed") == 0
    assert "note: it goes on under changed code: ownlab/parts.py" in capsys.readouterr().out
    status, saved = stopped.read_status()["code"], read_checkpoint(stopped.last)["attnseg"]["code"]
    assert status == saved
    [earlier] = status["earlier"]
    assert earlier == {"digest": then["digest"], "changed": ["ownlab/parts.py"], "until_step": 1}
    assert train(stopped) == 0  # finished, by the code of today


def test_a_finished_run_of_other_code_is_not_this_one(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    assert train(folder) == 0
    edit(lab / "parts.py", "def activation():\n", 'def activation():\n    """ReLU."""  # sharp\n')
    assert train(folder) == 0
    edit(lab / "parts.py", "nn.ReLU()", "nn.Tanh()")
    with pytest.raises(ConfigError, match=r"changed since: ownlab/parts\.py"):
        train(folder)
    capsys.readouterr()
    assert train(folder, "resume_code=changed") == 0
    assert "by code that has changed since (ownlab/parts.py)" in capsys.readouterr().out
    assert train(folder, "resume=none") == 0
    assert "earlier" not in folder.read_status()["code"]


def test_a_run_of_an_older_attnseg_goes_on_with_a_note(
    stopped: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_checkpoint(stopped.last)
    for key in ("code", "threads", "processes", "cpu"):
        content["attnseg"].pop(key)
    save_checkpoint(content, stopped.last)
    assert train(stopped) == 0
    assert "did not record this run's code" in capsys.readouterr().out
    assert "code" in stopped.read_status()


def test_a_fork_may_change_the_code_and_records_it(stopped: RunFolder, lab: Path) -> None:
    edit(lab / "parts.py", "ReLU", "Tanh")
    child = RunFolder(stopped.path.with_name("child"))
    assert train(child, f"fork={stopped.path}", "optim.lr=2e-3") == 0
    status = child.read_status()
    assert status["fork"]["changed_code"] == ["ownlab/parts.py"]
    assert train(child, f"fork={stopped.path}", "optim.lr=2e-3") == 0  # finished


def test_an_evaluation_under_changed_code_says_so(
    stopped: RunFolder, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"checkpoint={stopped.last}", "split=val", "trust=[ownlab]"]
    edit(lab / "parts.py", "ReLU", "Tanh")
    forget()
    assert evaluate([*words, f"output_dir={stopped.path / 'out'}"]) == 0
    assert "code has changed since it was trained: ownlab/parts.py" in capsys.readouterr().out
    metrics = json.loads((stopped.path / "out" / "metrics.json").read_text())
    assert (metrics["changed_code"], metrics["threads"]) == (["ownlab/parts.py"], 1)


def test_a_sweep_reports_a_job_whose_code_has_changed(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"

    def sweep(*words: str) -> int:
        forget()
        words = (*WORDS, "schedule.total_epochs=1", "seed=1,2", f"run.root={root}", *words)
        return main(["train", "-m", *words])

    assert sweep() == 0
    edit(lab / "parts.py", "ReLU", "Tanh")
    assert sweep() == USER_MISTAKE
    assert "changed: seed=1: its code has changed since: ownlab/parts.py" in capsys.readouterr().err
    assert states(root) == {"seed=1": "changed", "seed=2": "changed"}
    for name in ("seed=1", "seed=2"):
        assert RunFolder(run_folder(root, name)).read_status()["state"] == "finished"
    assert sweep("resume_code=changed") == 0
    assert set(states(root).values()) == {"finished"}
