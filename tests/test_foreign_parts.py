"""Parts of somebody else's package: an attention, an encoder, a model, loss terms and curves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnseg.build import build_model
from attnseg.cli import main
from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.config import TrainConfig, validate
from attnseg.config.compose import compose_checked
from attnseg.runs.checkpoints import load_checkpoints, read_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from tests.conftest import TINY

PARTS = '''
import torch
from torch import nn


class Disc(nn.Module):
    """A soft disc whose place is learned."""

    reads_drr_features = False

    def __init__(self, xray_channels, *, radius: float = 0.3, steep: int = 10):
        super().__init__()
        assert len(xray_channels) == 5
        self.centre = nn.Parameter(torch.zeros(2))
        self.radius, self.steep = radius, steep

    def forward(self, drr, drr_features, xray_features):
        assert drr_features == []
        h, w = drr.shape[-2:]
        y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        far = ((y - self.centre[0]) ** 2 + (x - self.centre[1]) ** 2 + 1e-6).sqrt()
        logits = (self.steep * (self.radius - far)).expand(len(drr), 1, h, w)
        return logits, logits.sigmoid()


def sparse(output, batch, power: float = 1.0):
    assert set(batch) >= {"xray", "drr", "mask", "case_id"}
    return output.attention.mean() ** power


class Teeth:
    def __init__(self, teeth: int = 3, height: float = 0.5):
        self.teeth, self.height = teeth, height

    def __call__(self, t):
        return self.height * ((t * self.teeth) % 1.0)


def saw(t, height=0.5):
    return height * (1 - t)


class Net(nn.Module):
    """Mask logits alone, and no groups."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 1, 1))

    def forward(self, xray, drr):
        return self.net(xray)


class Halves(nn.Module):
    """An encoder without a norm."""

    def __init__(self, widths: list = [4, 8, 8]):
        super().__init__()
        self.channels = tuple(widths)
        pairs = zip([1, *widths], widths)
        self.levels = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)

    def forward(self, image):
        features = []
        for level in self.levels:
            image = level(image)
            features.append(image)
        return features


class Broken(nn.Module):
    def __init__(self, a: int = 1):
        super().__init__()
        self.x = a / 0


def negative(t):
    return -1.0


def vector(output, batch):
    return output.attention.mean((1, 2, 3))
'''
ALL = (
    "attention._target_=mylab.parts.Disc",
    "attention.radius=0.4",
    "loss.terms.sparse._target_=mylab.parts.sparse",
    "loss.terms.sparse.power=2",
    "schedule.phases.joint.weights.sparse={_target_: mylab.parts.saw, height: 0.2}",
    "schedule.phases.joint.weights.attention={_target_: mylab.parts.Teeth, teeth: 2}",
)
OWN_ATTENTION = tuple(word for word in TINY if not word.startswith("attention."))


@pytest.fixture
def mylab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "__init__.py").touch()
    (tmp_path / "mylab" / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def composed(*words: str) -> TrainConfig:
    small = [word for word in OWN_ATTENTION if not word.startswith("model.")]
    return compose_checked("train", [*small, *words], TrainConfig)


def test_all_at_once_trains_resumes_and_is_measured(
    mylab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *OWN_ATTENTION, *ALL, "run.dir=whole"]) == 0
    rows = read_ledger(Path("whole/metrics.csv"))
    assert [float(row["weight/sparse"]) for row in rows] == [1.0, 0.0]  # 1 where nobody weighs it
    assert float(rows[0]["train/loss/sparse"]) > 0
    part = ["trainer.max_epochs=1", "run.dir=half"]
    assert main(["train", *OWN_ATTENTION, *ALL, *part]) == 0
    assert main(["train", *OWN_ATTENTION, *ALL, "run.dir=half"]) == 0
    one, other = (read_checkpoint(RunFolder(Path(name)).last) for name in ("whole", "half"))
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name
    config = Path("whole/config.yaml").read_text()
    assert "_target_: mylab.parts.Disc" in config and "hidden_channels" not in config
    capsys.readouterr()
    assert main(["evaluate", "checkpoint=whole", "split=val"]) == 2
    assert "add trust=[mylab]" in capsys.readouterr().err
    assert main(["evaluate", "checkpoint=whole", "split=val", "trust=[mylab]"]) == 0


def test_a_network_and_an_encoder_fit_in(mylab: Path) -> None:
    net = composed("model._target_=mylab.parts.Net", "attention=none")
    model = build_model(net.model, net.attention)
    image = torch.zeros(2, 1, 64, 64)
    assert model(image, image).mask_logits.shape == image.shape and not model.has_attention
    groups = model.parameter_groups()
    assert len(groups["backbone"]) == 4 and not groups["head"]
    words = ("model.encoder._target_=mylab.parts.Halves", "attention.stride=2")
    halves = composed(*words)
    assert halves.model.encoder.options == {}  # what was said of the light encoder is gone
    assert build_model(halves.model, halves.attention)(image, image).attention.shape == image.shape


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("attention._target_=mylab.parts.Disc", "attention.radios=1"),
         "attention.radios: no such key; did you mean 'attention.radius'?"),
        (("attention._target_=mylab.parts.Disc", "attention.radius=far"),
         "attention.radius: input should be a valid number"),
        (("attention._target_=mylab.parts.Dsc",), "did you mean mylab.parts.Disc?"),
        (("attention._target_=mylab.nothing.Disc",), "cannot be imported: ModuleNotFoundError"),
        (("attention._target_=mylab.broken.Disc",), "broken.py:1"),
        (("attention=none", "attention.temperature=0.5"),
         "attention.temperature: no such key with attention=none (anatomical, drr have it)"),
        (("attention.name=anatomicl",), "no attention is called 'anatomicl'; did you mean"),
        (("schedule.phases.joint.weights.sparse=0.1",), "the loss has no such term"),
        (("loss.terms.attention._target_=mylab.parts.sparse",), "terms.attention: choose another"),
        (("model._target_=mylab.parts.Net",), "add attention=none"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_data_are_read(
    mylab: Path, words: tuple[str, ...], reason: str
) -> None:
    (mylab / "mylab" / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError) as error:
        composed(*words)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("attention._target_=mylab.parts.Broken",),
         r"mylab\.parts\.Broken fails: ZeroDivisionError: .* at .*parts\.py:\d+"),
        (("schedule.phases.joint.weights.attention={_target_: mylab.parts.negative}",),
         r"phases\.joint\.weights\.attention: its curve gives -1"),
        (("loss.terms.v._target_=mylab.parts.vector",), r"loss\.terms\.v: must give one number"),
    ],
)  # fmt: skip
def test_what_fails_is_told_with_its_place(
    mylab: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    assert main(["train", *OWN_ATTENTION, *words, "run.dir=run"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    import re

    assert re.search(reason, told)


def test_a_file_s_attention_needs_trust_and_its_curves_are_not_imported(mylab: Path) -> None:
    assert main(["train", *OWN_ATTENTION, *ALL, "run.dir=run", "schedule.total_epochs=2"]) == 0
    code = (
        "import sys\nfrom pathlib import Path\nfrom attnseg.cli import main\n"
        "from attnseg.runs.records import read_record\n"
        "record = read_record(Path('run'))\n"
        "assert record.total == 2 and record.finished, record\n"
        "assert main(['runs', 'show', 'run']) == 0\n"
        "assert main(['predict', 'checkpoint=run', 'images=.', 'out=o']) == 2\n"
        "assert not any(name.startswith('mylab') for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.raises(CheckpointError, match=r"its attention: refused, mylab\.parts\.Disc is not"):
        load_checkpoints("run")
    assert load_checkpoints("run", trust=["mylab"])[0].config.attention.name == "Disc"


def test_a_file_of_before_may_say_more_than_the_component_has(train_config: TrainConfig) -> None:
    plain = train_config.model_dump(mode="json")
    plain["attention"] = {"name": "none", "hidden_channels": 32, "temperature": 1.0}
    plain["model"]["encoder"] |= {"weights": None}
    assert validate(plain, TrainConfig).attention.options == {}
    with pytest.raises(ConfigError, match=r"attention\.hidden_channels: no such key with"):
        validate(plain, TrainConfig, imports=True)
    plain["attention"]["nonsense"] = 1
    with pytest.raises(ConfigError, match=r"attention\.nonsense: no such key"):
        validate(plain, TrainConfig)
