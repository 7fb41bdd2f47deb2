"""Sources and transforms of somebody else's package."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from attnseg.cli import main
from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.config import DataConfig, TrainConfig
from attnseg.config.component import registry
from attnseg.config.compose import compose_checked
from attnseg.config.trust import refuse_untrusted_source
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.data.digest import digest_of
from attnseg.data.sources import build_source
from attnseg.runs.checkpoints import read_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_ids
from attnseg.training.module import AttnSegModule
from attnseg.training.unkeyed import refuse_unkeyed_draws
from tests.conftest import TINY

PARTS = '''
import random
from pathlib import Path

import numpy as np
import torch

from attnseg.data.sources.base import Source
from attnseg.imaging.case import Case, CaseContent, CaseImages


def images(file, gain=1.0):
    pixels = np.load(file)
    return CaseImages(pixels * gain, pixels, (pixels > 0.9).astype(np.uint8))


class Files(Source):
    """Arrays in a folder, one a patient."""

    def __init__(self, root: str, *, gain: float = 1.0):
        self.root, self.gain = Path(root), gain
        self.record = {"files": len(list(self.root.glob("*.npy")))}

    def cases(self):
        return [Case(p.stem, p.stem, xray=p) for p in sorted(self.root.glob("*.npy"))]

    def load(self, case):
        return images(case.xray, self.gain)


class Plain:
    """A sequence, and nothing of attnseg's but what it gives."""

    def __init__(self, root, version: int = 1):
        self.files, self.version = sorted(Path(root).glob("*.npy")), version
        self.record = {}

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return Case(self.files[index].stem, self.files[index].stem)

    def load(self, index):
        return images(self.files[index])

    def problems(self):
        return []

    def content(self, case):
        return {"version": self.version, "case": case.case_id}


class Nothing:
    def __init__(self, root):
        self.root = root

    def load(self, index):
        pass


class Made(Source):
    def __init__(self, n: int = 4):
        self.n = n

    def cases(self):
        return [Case(f"c{i}", f"c{i}") for i in range(self.n)]

    def load(self, case):
        return 1 / 0


class Noise:
    def __init__(self, sigma: float = 0.1):
        self.sigma = sigma

    def __call__(self, sample, generator):
        grain = torch.randn(sample["xray"].shape, generator=generator)
        return {**sample, "xray": sample["xray"] + self.sigma * grain}


def shifted(sample, generator, by: float = 1.0):
    return {**sample, "drr": sample["drr"] + by * torch.rand((), generator=generator)}


def halves(sample):
    return {**sample, "mask": sample["mask"] / 2}


def cuts(sample, generator):
    return {**sample, "xray": sample["xray"][:, 1:]}


def loses(sample, generator):
    return {"xray": sample["xray"]}


def breaks(sample, generator):
    return sample["nothing"]


def numpys(sample, generator):
    return {**sample, "xray": sample["xray"] * float(np.random.rand())}


def pythons(sample, generator):
    return {**sample, "xray": sample["xray"] * random.random()}


def torches(sample, generator):
    return {**sample, "xray": sample["xray"] + torch.randn(1)}


class OwnState:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, sample, generator):
        return {**sample, "xray": sample["xray"] + float(self.rng.random())}


class Unseeded(OwnState):
    def __init__(self):
        self.rng = np.random.default_rng()


class Jitter(Files):
    def __init__(self, root: str):
        super().__init__(root)

    def load(self, case):
        return images(case.xray, 1 + np.random.rand())


class Versioned(Made):
    def content(self, case):
        return CaseContent(parameters=1)
'''
MONAI = "{_target_: monai.transforms.RandGaussianNoised, keys: [xray], prob: 0.7}"
TRANSFORMS = (
    "data.augment.transforms=[{_target_: mylab.parts.Noise, sigma: 0.2},"
    f"{{_target_: mylab.parts.shifted}},{MONAI}]"
)
SOURCE = "data._target_=mylab.parts.Files"
SHARED = tuple(word for word in TINY if not word.startswith("data.n_cases"))


@pytest.fixture
def mylab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "__init__.py").touch()
    (tmp_path / "mylab" / "parts.py").write_text(PARTS)
    (tmp_path / "set").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        np.save(tmp_path / "set" / f"p{number}.npy", rng.random((64, 48), np.float32))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "mylab"]:
        del sys.modules[name]


def composed(*words: str) -> TrainConfig:
    return compose_checked("train", [*SHARED, *words], TrainConfig)


def section(*words: str) -> DataConfig:
    return composed(*words).data


def states(*folders: str) -> list[dict[str, torch.Tensor]]:
    return [read_checkpoint(RunFolder(Path(name)).last)["state_dict"] for name in folders]


def test_a_source_trains_resumes_and_is_measured(
    mylab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SHARED, SOURCE, "data.root=set", "data.gain=2", TRANSFORMS]
    words += ["callbacks.overlays.every_n_epochs=0", "logger=none"]
    assert main(["train", *words, "run.dir=whole"]) == 0
    workers = [*words, "data.num_workers=2"]
    assert main(["train", *workers, "run.dir=half", "trainer.max_epochs=1"]) == 0
    assert main(["train", *workers, "run.dir=half"]) == 0
    one, other = states("whole", "half")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    config = Path("whole/config.yaml").read_text()
    assert "_target_: mylab.parts.Files" in config and "n_cases: 6" not in config
    capsys.readouterr()
    assert main(["data", "check", SOURCE, "data.root=set"]) == 0
    assert main(["evaluate", "checkpoint=whole", "split=val"]) == 2
    assert "add trust=[mylab]" in capsys.readouterr().err
    assert main(["evaluate", "checkpoint=whole", "split=val", "trust=[mylab]"]) == 0
    keyboard = [SOURCE, "data.root=set", "split=all"]
    assert main(["evaluate", "checkpoint=whole", *keyboard, "output_dir=all"]) == 0


def test_what_is_shared_is_laid_over_every_source(mylab: Path) -> None:
    data = section(SOURCE, "data.root=set", "data.size=96", "data.split.seed=3")
    assert data.options == {"root": "set"}
    assert (data.size, data.batch_size, data.split.seed, data.root) == (96, 2, 3, "set")
    plain = data.model_dump(mode="json")
    assert plain["_target_"] == "mylab.parts.Files" and "seed" not in plain
    assert data.model_copy(update={"root": "other", "size": 64}).root == "other"
    named = section("data.name=manifest", "data.root=x")
    assert named.options == {"root": "x", "on_mismatch": "refuse"}


@pytest.mark.parametrize("name", ["Files", "Plain"])
def test_the_digest_is_that_of_the_content(mylab: Path, name: str) -> None:
    def digest(*words: str) -> str:
        target = f"data._target_=mylab.parts.{name}"
        return digest_of(section(target, "data.root=set", *words), progress=False)

    before = digest()
    if name == "Plain":
        assert digest("data.version=2") != before
        return
    np.save("set/p3.npy", np.zeros((64, 48), np.float32))
    assert digest() != before


def test_a_sequence_is_a_source_too(mylab: Path) -> None:
    config = composed("data._target_=mylab.parts.Plain", "data.root=set")
    module = AttnSegDataModule(config, progress=False)
    module.setup("fit")
    assert next(iter(module.val_dataloader()))["xray"].shape == (2, 1, 64, 64)
    assert module.record["source"] == {"name": "Plain", "source": "mylab.parts.Plain"}


def test_edited_code_decodes_again(mylab: Path) -> None:
    data = section(SOURCE, "data.root=set")
    source = build_source(data)
    before = source.fingerprint(source.cases()[0])
    (mylab / "mylab" / "parts.py").write_text(PARTS.replace("pixels > 0.9", "pixels > 0.8"))
    assert build_source(data).fingerprint(source.cases()[0]) != before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["data._target_=mylab.parts.Nothing", "data.root=x"],
         "has no __len__, __getitem__, problems, content; derive it from attnseg.data.sources"),
        ([SOURCE, "data.root=set", "data.gian=1"], "did you mean 'data.gain'?"),
        ([SOURCE, "data.root=set", "data.batchsize=1"], "did you mean 'data.batch_size'?"),
        ([SOURCE], "data.root: needed, and not set"),
        ([SOURCE, "data.root=set", "data.gain=loud"], "data.gain: input should be a valid number"),
        (["data.batchsize=1"], "data.batchsize: no such key; did you mean 'data.batch_size'?"),
        (["data.root=x"], "data.root: no such key with data=phantom (chestx_det, "),
        (["data.name=phantm"], "data: no data is called 'phantm'; did you mean 'phantom'?"),
        (["data._target_=mylab.parts.Made"], "so it needs a method content(case)"),
        (["data._target_=mylab.parts.Versioned"],
         "case c0 cannot be used: mylab.parts.Versioned.load fails: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_mistakes_are_told(
    mylab: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    assert main(["train", *SHARED, "run.dir=run", *words]) == 2
    told = capsys.readouterr().err
    assert reason in told and "Traceback" not in told


def test_a_file_s_source_has_to_be_trusted(mylab: Path) -> None:
    ours = {"_target_": "attnseg.data.sources.phantom.PhantomSource"}
    refuse_untrusted_source(ours, [], "x")
    theirs = {"_target_": "mylab.parts.Files", "root": "set"}
    refuse_untrusted_source(theirs, ["mylab"], "x")
    for data, trust in (
        (theirs, []),
        ({"_target_": "attnseg.config.data.DataConfig"}, []),
        ({"_target_": "subprocess.Popen", "args": "x"}, ["mylab"]),
        ({**theirs, "root": {"_target_": "os.system"}}, ["mylab"]),
    ):
        with pytest.raises(CheckpointError, match="refused"):
            refuse_untrusted_source(data, trust, "x")


IDS = {
    "phantom": {"1": "a1de08b4", "2": "b92ef123"},
    "lidc_drr": {"1": "546c3ef0", "2": "eeafc116"},
    "manifest": {"1": "8d0e64a3", "2": "3d330a29"},
    "jsrt": {"1": "f8cc13ae", "2": "88afb47f"},
    "node21": {"1": "ec8d23e7", "2": "b02259f0"},
    "chestx_det": {"1": "d3265a11", "2": "ac394446"},
}


@pytest.mark.parametrize("name", sorted(IDS))
def test_ids_are_those_of_before_sources_owned_their_options(name: str) -> None:
    assert set(IDS) == set(registry("data"))
    root = [] if name == "phantom" else ["data.root=/x"]
    config = compose_checked("train", [f"data={name}", *root], TrainConfig)
    ids = run_ids(config.model_copy(update={"data_digest": "d" * 32}))
    assert {version: ids[version] for version in ("1", "2")} == IDS[name]


def sample_of(*words: str, number: int = 1, epoch: int = 0) -> dict[str, torch.Tensor]:
    module = AttnSegDataModule(composed(SOURCE, "data.root=set", *words), progress=False)
    return module.train_dataloader().dataset[(epoch, number)]


def test_transforms_come_after_ours_and_depend_on_the_sample_alone(mylab: Path) -> None:
    plain, one = sample_of(), sample_of(TRANSFORMS)
    np.random.seed(5)  # noqa: NPY002 - it must not matter
    torch.manual_seed(5)
    again, other = sample_of(TRANSFORMS), sample_of(TRANSFORMS, number=2)
    for key in ("xray", "drr"):
        assert torch.equal(one[key], again[key]) and type(one[key]) is torch.Tensor
        assert not torch.equal(one[key], plain[key]) and not torch.equal(one[key], other[key])
    assert torch.equal(one["mask"], plain["mask"])
    assert torch.equal(sample_of(TRANSFORMS, "data.augment.enabled=false")["drr"],
                       sample_of("data.augment.enabled=false")["drr"])  # fmt: skip


def test_help_tells_of_sources_and_transforms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help", "data"]) == 0
    told = capsys.readouterr().out
    for words in (
        "data=phantom ",
        "data.on_mismatch ",
        "data.split.fold ",
        "data.augment.transforms ",
    ):
        assert words in told


def test_a_run_without_transforms_is_the_run_that_it_was(mylab: Path) -> None:
    assert run_ids(composed()) == run_ids(composed("data.augment.transforms=[]"))
    assert run_ids(composed()) != run_ids(composed(f"data.augment.transforms=[{MONAI}]"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("halves", "the mask has values beside 0 and 1 after it; resample it by its nearest"),
        ("cuts", "xray was 1 x 64 x 64 float32, and is 1 x 63 x 64 float32"),
        ("loses", "the sample must keep its keys; not the same: case_id"),
        ("breaks", r"mylab.parts.breaks fails: KeyError: 'nothing' at .*parts.py:\d+"),
    ],
)
def test_what_is_no_sample_is_told(mylab: Path, name: str, reason: str) -> None:
    own = f"data.augment.transforms=[{{_target_: mylab.parts.{name}}}]"
    with pytest.raises(ConfigError, match=reason):
        [sample_of(own, number=number) for number in range(6)]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("{_target_: mylab.parts.Noise, sgma: 1}", "mean 'data.augment.transforms.0.sigma'?"),
        ("{_target_: monai.transforms.RandFlipd, keys: [xray], prb: 1}", "prb: no such key"),
        ("{_target_: mylab.parts.Noise}] data.augment.on_device=true", "set on_device=false"),
    ],
)  # fmt: skip
def test_mistakes_in_transforms_are_told(mylab: Path, word: str, reason: str) -> None:
    word, _, more = word.partition("] ")
    with pytest.raises(ConfigError) as error:
        composed(f"data.augment.transforms=[{word}]", *([more] if more else []))
    assert reason in str(error.value)


STEPS = """
import random

import numpy as np
import torch
from torch import nn


class Attention(nn.Module):
    reads_drr_features = False

    def __init__(self, xray_channels, *, how: str = "torch"):
        super().__init__()
        self.layer, self.how = nn.Conv2d(1, 1, 1), how
        self.register_buffer("steps", torch.zeros(()))
        self.own = np.random.default_rng(0)

    def forward(self, drr, drr_features, xray_features):
        self.steps += 1
        match self.how:
            case "torch":
                number = torch.rand(()) + self.steps
            case "numpy":
                number = np.random.rand()
            case "random":
                number = random.random()
            case "own":
                number = self.own.random()
        logits = self.layer(drr) * float(number)
        return logits, logits.sigmoid()


def term(output, batch):
    return output.attention.mean() * random.gauss(1, 0.1)
"""


def _line(text: str, words: str) -> str:
    return str(1 + text[: text.index(words)].count("\n"))


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("data.augment.transforms=[{_target_: mylab.parts.numpys}]",
         r"mylab.parts.numpys \(.*parts.py:\d+\) draws from numpy.random's global generator at "
         r".*parts.py:{float(np.random.rand())}, .* draw from the torch.Generator that"),
        ("data.augment.transforms=[{_target_: mylab.parts.pythons}]",
         r"mylab.parts.pythons .* draws from random's global generator at .*parts.py:\d+"),
        ("data.augment.transforms=[{_target_: mylab.parts.torches}]",
         r"mylab.parts.torches .* draws from torch's global generator at .*parts.py:\d+"),
        ("data.augment.transforms=[{_target_: mylab.parts.OwnState}]",
         r"mylab.parts.OwnState \(.*parts.py:\d+\) gives another result for the same"),
        ("data.augment.transforms=[{_target_: mylab.parts.Unseeded}]",
         r"mylab.parts.Unseeded \(.*parts.py:\d+\) gives another result for the same"),
        ("data._target_=mylab.parts.Jitter",
         r"mylab.parts.Jitter .* draws from numpy.random.* at .*parts.py:\d+, .*a source gives"),
        ("attention.how=torch", None),
        ("attention.how=numpy", r"draws from numpy.random's .* at .*steps.py:{np.random.rand()},"),
        ("attention.how=random", r"draws from random's .* at .*steps.py:{random.random()},"),
        ("attention.how=own", r"mylab.steps.Attention \(.*\) gives another result for the same"),
        ("loss.terms.term._target_=mylab.steps.term",
         r"random's .* at .*steps.py:{random.gauss}, .*torch"),
    ],
)  # fmt: skip
def test_what_no_key_decides_is_told_before_training(
    mylab: Path, word: str, reason: str | None
) -> None:
    (mylab / "mylab" / "steps.py").write_text(STEPS)
    source = [] if word.startswith("data._target_") else [SOURCE]
    words = [w for w in SHARED if not w.startswith("attention.")] + [*source, "data.root=set", word]
    own = "attention._target_=mylab.steps.Attention"
    words += [own] if word.startswith(("attention", "loss")) else ["attention=none"]
    config = compose_checked("train", words, TrainConfig)
    data = AttnSegDataModule(config, progress=False)
    before = np.random.get_state()[2], torch.get_rng_state()  # noqa: NPY002
    module = AttnSegModule(config)
    if reason is None:
        refuse_unkeyed_draws(module, data)
        assert module.state_dict()["model.attention.steps"] == 0 if "how" in word else True
        return
    text = PARTS if "parts.py:{" in reason else STEPS
    with pytest.raises(ConfigError, match=re.sub(r"{(.+)}", lambda m: _line(text, m[1]), reason)):
        refuse_unkeyed_draws(module, data)
    assert np.random.get_state()[2] == before[0]  # noqa: NPY002
