"""No file runs code: what a file names is made only if it is a network of a trusted package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attnseg.build import build_model
from attnseg.cli import main
from attnseg.common.errors import CheckpointError
from attnseg.common.initial_weights import without_initial_weights
from attnseg.config import EvaluateConfig, TrainConfig, validate
from attnseg.config.compose import compose_checked
from attnseg.config.trust import (
    note_on_network,
    refuse_untrusted,
    trusted_class,
)
from attnseg.nn import monai_control
from attnseg.runs.checkpoints import load_checkpoints
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_identity
from tests.conftest import TINY, configure
from tests.malicious import (
    CARRIERS,
    MODULE,
    NAMES,
    Reduced,
    as_ckpt,
    as_run,
    attacks,
    lay_out,
    nothing_runs,
    ran,
    small_run,
)

UNET = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [8, 16],
    "strides": [2],
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was never trained, to make bad ones of."""
    folder = RunFolder(tmp_path_factory.mktemp("good"))
    return small_run(folder, configure(folder.path))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with what the attacks lead to."""
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    with nothing_runs(tmp_path):
        yield tmp_path
    assert MODULE not in sys.modules


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("name", NAMES)
def test_no_attack_works_from_any_file(
    name: str, carrier: str, good: RunFolder, here: Path
) -> None:
    evil = CARRIERS[carrier](good, attacks(here)[name], here / carrier)
    with pytest.raises(CheckpointError, match=f"{carrier}.*(refused|cannot be imported)"):
        load_checkpoints(str(evil))


COMMANDS = {
    "evaluate": ("evaluate", "checkpoint={}"),
    "analyze": ("analyze", "checkpoint={}"),
    "predict": ("predict", "checkpoint={}", "images=images", "out=out"),
    "export": ("export", "checkpoint={}"),
    "export a graph": ("export", "checkpoint={}", "format=exported_program"),
    "warmstart": ("train", *TINY, "run.dir=new", "warmstart={}"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_command_refuses_every_file(
    command: str,
    carrier: str,
    good: RunFolder,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if (command, carrier) == ("warmstart", "ensemble"):
        pytest.skip("a warm start takes no such folder")
    evil = CARRIERS[carrier](good, attacks(here)["os.system"], here / carrier)
    words = [word.format(evil) for word in COMMANDS[command]]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "os.system is not of a package that a file may name" in message
    assert str(evil) in message and "Traceback" not in message and "trust=" not in message


@pytest.mark.parametrize("name", ["os.system", "a module lying here", "nested"])
@pytest.mark.parametrize("key", ["resume", "fork"])
def test_training_goes_on_from_no_such_file(
    key: str, name: str, good: RunFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = as_ckpt(good, attacks(here)[name], here / "evil.ckpt")
    assert main(["train", *TINY, "run.dir=new", f"{key}={evil}"]) == 2
    assert "evil.ckpt" in capsys.readouterr().err


def test_commands_that_read_run_folders_run_nothing(
    finished: RunFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {"a": "os.system", "b": "instantiate", "c": "a function of ours", "d": "nested"}
    for folder, name in bad.items():
        as_run(finished, attacks(here)[name], here / "runs" / folder)
    shutil.copytree(finished.path, here / "runs" / "good")
    assert main(["runs", "list"]) == 0
    assert main(["runs", "show", "runs/a"]) == 0
    assert main(["sync", "runs/a", "runs/b", "dry_run=true"]) == 0
    capsys.readouterr()
    assert main(["compare", "runs", "output_dir=out", "n_cases=0", "n_resamples=100"]) == 0
    told = "".join(capsys.readouterr())
    assert told.count("refused") >= len(bad) and "Traceback" not in told


def test_yaml_tags_and_pickles_run_nothing(
    finished: RunFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(here / "runs" / "evil")
    shutil.copytree(finished.path, run.path)
    run.config.write_text(f"!!python/object/apply:os.system ['touch {ran(here)}']\n")
    torch.save({"state_dict": {}, "attnseg": Reduced(f"touch {ran(here)}")}, run.best)
    shutil.copy(here / "pickled.pt", run.last)
    for words in (
        ["runs", "list"],
        ["runs", "show", "runs/evil"],
        ["sync", "runs/evil", "dry_run=true"],
        ["compare", "runs", "output_dir=out", "n_cases=0", "n_resamples=100"],
        ["evaluate", "checkpoint=runs/evil"],
        ["evaluate", "checkpoint=runs/evil/checkpoints/last.ckpt"],
        ["train", *TINY, "run.dir=new", "fork=runs/evil"],
        ["train", *TINY, "run.dir=new", "resume=runs/evil"],
    ):
        assert main(words) in (0, 1, 2), words
        assert "Traceback" not in capsys.readouterr().err, words
    assert "refused" in refusal(str(run.best))


def refusal(spec: str, **options: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoints(spec, **options)
    return str(error.value)


def test_nothing_is_imported_from_the_working_directory(
    good: RunFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m` puts the working directory before everything that is installed."""
    evil = as_ckpt(good, UNET, here / "evil.ckpt")
    lying = as_ckpt(good, attacks(here)["a module lying here"], here / "lying.ckpt")
    script = f"""
import sys
sys.argv = ["attnseg", "evaluate", "checkpoint={lying}"]
from attnseg.cli import main
assert main(sys.argv[1:]) == 2 and "{MODULE}" not in sys.modules
assert main(["evaluate", "checkpoint={evil}"]) == 2
assert "site-packages" in sys.modules["monai"].__file__, sys.modules["monai"].__file__
"""
    (here / "shadow" / "started.py").write_text(script)
    shutil.copy(here / f"{MODULE}.py", here / "shadow")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "started"]
    done = subprocess.run(
        command, cwd=here / "shadow", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"add trust=[{MODULE}]" in done.stderr
    assert "do not fit the model" in done.stderr  # MONAI's own U-Net was made


@pytest.fixture
def mylab(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of one's own, installed: two networks, a function, a re-export."""
    folder = here / "installed" / "mylab"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from mylab.nets import Net\nfrom pathlib import Path\n")
    (folder / "nets.py").write_text(
        "from torch import nn\nclass Net(nn.Conv2d): ...\ndef make(): return Net(1, 1, 1)\n"
    )
    monkeypatch.syspath_prepend(str(folder.parent))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def own_network(target: str, **arguments: object) -> list[str]:
    """Words for a training of it."""
    words = [w for w in TINY if not w.startswith(("model.", "attention."))]
    gone = {"spatial_dims", "channels", "strides", "num_res_units", "dropout"}
    gone |= {"in_channels", "out_channels"} - set(arguments)
    words += ["model=unet", "attention=none", f"model.network._target_={target}"]
    words += [f"model.network.{key}={value}" for key, value in arguments.items()]
    return words + [f"~model.network.{key}" for key in sorted(gone)]


CONV = {"in_channels": 1, "out_channels": 1, "kernel_size": 1}


def test_ones_own_package_is_opened_by_trust_alone(good: RunFolder, mylab: Path) -> None:
    path = str(as_ckpt(good, {"_target_": "mylab.Net", **CONV}, mylab.parent / "a.ckpt"))
    assert "mylab.Net is not of a package" in (text := refusal(path))
    assert "add trust=[mylab]" in text and "a.ckpt" in text and "mylab" not in sys.modules
    assert "mylab.nets.Net, which is not" in refusal(path, trust=["mylab.Net"])
    assert load_checkpoints(path, trust=["mylab"])[0].config.model.name == "monai"
    for target, reason in (("mylab.nets.make", "no class"), ("mylab.Path", "pathlib.Path, which")):
        as_ckpt(good, {"_target_": target}, Path(path))
        assert reason in refusal(path, trust=["mylab"])


def test_a_run_with_ones_own_network_from_beginning_to_end(
    mylab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = own_network("mylab.nets.Net", **CONV)
    assert main(["train", *words, "run.dir=own"]) == 0
    assert "trust=[mylab] for it" in capsys.readouterr().out
    config = Path("own/config.yaml").read_text()
    assert "trust" not in config
    assert main(["train", *words, "run.dir=warm", "warmstart=own"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "checkpoint=own", "split=all"]) == 2
    assert "add trust=[mylab]" in capsys.readouterr().err
    assert main(["evaluate", "checkpoint=own", "split=all", "trust=mylab"]) == 0
    small = ["output_dir=out", "n_cases=0", "n_resamples=100"]
    assert main(["compare", "own", "warm", *small, "trust=[mylab]"]) == 0
    assert "refused" not in "".join(capsys.readouterr())


def test_a_function_trains_and_says_that_it_cannot_be_evaluated(
    mylab: Path,
) -> None:
    config = compose_checked("train", own_network("mylab.nets.make"), TrainConfig)
    assert "will refuse this run (" in (note_on_network(config) or "")
    assert note_on_network(configure(mylab)) is None


def test_what_a_file_grants_is_no_grant(good: RunFolder, mylab: Path) -> None:
    path = as_ckpt(good, {"_target_": "mylab.Net", **CONV}, mylab.parent / "a.ckpt")
    content = torch.load(path, weights_only=True)
    content["attnseg"]["config"]["trust"] = ["mylab", "os"]
    torch.save(content, path)
    assert "add trust=[mylab]" in refusal(str(path))


def test_trust_is_written_nowhere_and_decides_nothing(tmp_path: Path) -> None:
    config = configure(tmp_path, "trust=[mylab,lab.networks]")
    assert config.trust == ["mylab", "lab.networks"]
    assert "trust" not in config.model_dump()
    assert run_identity(config) == run_identity(configure(tmp_path))
    with pytest.raises(Exception, match=r"trust: 'a/b' is no package"):
        configure(tmp_path, "trust=[a/b]")
    assert compose_checked("evaluate", ["checkpoint=x", "trust=lab"], EvaluateConfig).trust == [
        "lab"
    ]


def test_odd_values_in_a_configuration_are_refused(good: RunFolder, tmp_path: Path) -> None:
    for value, word in ((torch.zeros(2), "Tensor"), (b"x", "bytes"), ({1: 2}, "the key 1")):
        path = as_ckpt(good, {**UNET, "act": ["prelu", value]}, tmp_path / "a.ckpt")
        assert word in refusal(str(path))


def test_a_configuration_without_end_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(CheckpointError, match=r"here: refused, .*too many containers"):
        refuse_untrusted({"model": {"network": {**UNET, "act": nested}}}, (), "here")


def test_a_class_is_found_without_running_anything() -> None:
    found = trusted_class("monai.networks.nets.UNet", nn.Module, (), "here")
    assert found.__module__ == "monai.networks.nets.unet"
    with pytest.raises(CheckpointError, match=r"here: refused, .*UNet is no subclass of .*Flatten"):
        trusted_class("monai.networks.nets.UNet", nn.Flatten, (), "here")
    with pytest.raises(CheckpointError, match="is not there"):
        trusted_class("monai.networks.nets.Nothing", nn.Module, (), "here")
    with pytest.raises(CheckpointError, match=r"no\.such cannot be imported"):
        trusted_class("attnseg.no.such.Net", nn.Module, (), "here")
    with pytest.raises(CheckpointError, match=r"trust=\[torch\.nn\]"):
        trusted_class("torch.nn.Conv2d", nn.Module, (), "here")
    assert trusted_class("torch.nn.Conv2d", nn.Module, ["torch.nn"], "here") is nn.Conv2d


def test_initial_weights_are_left_out() -> None:
    given = {
        "pretrained": True,
        "encoder_weights": "imagenet",
        "pretrained_url": "https://x.org/a.pth",
        "checkpoint": "sam.pth",
        "weights_path": "/a/b",
        "start": "~/net.safetensors",
        "encoder": {"name": "resnet18", "weights": "imagenet"},
        "use_checkpoint": True,
        "drop_path": 0.1,
        "class_weights": [1.0, 2.0],
        "weight_norm": "batch",
        "in_channels": 1,
    }
    kept = without_initial_weights(given, {"is_pretrained": True, "weights": None, "act": "RELU"})
    assert kept == {
        "pretrained": False,
        "encoder_weights": None,
        "pretrained_url": None,
        "checkpoint": None,
        "weights_path": None,
        "start": None,
        "encoder": {"name": "resnet18", "weights": None},
        "use_checkpoint": True,
        "drop_path": 0.1,
        "class_weights": [1.0, 2.0],
        "weight_norm": "batch",
        "in_channels": 1,
        "is_pretrained": False,
    }


class Downloads(nn.Conv2d):
    """As MONAI's EfficientNetBN: it downloads unless told not to."""

    def __init__(self, pretrained: bool = True, url: str | None = None) -> None:
        super().__init__(1, 1, 1)
        assert not pretrained and url is None, "downloads"


def test_a_network_is_rebuilt_without_initial_weights(train_config: TrainConfig) -> None:
    target = f"{__name__}.Downloads"
    plain = {"name": "monai", "network": {"_target_": target, "url": "https://x.org/a.pth"}}
    off = {"name": "none"}
    config = validate({**train_config.model_dump(), "model": plain, "attention": off}, TrainConfig)
    with pytest.raises(Exception, match="downloads"):
        build_model(config.model, config.attention)
    build_model(config.model, config.attention, load_weights=False)
    assert monai_control.instantiate(plain["network"], load_weights=False)


def test_what_is_no_configuration_is_left_to_the_schema() -> None:
    for config in ({}, {"model": 3}, {"model": {"network": None}}, None):
        refuse_untrusted(config, (), "here")
