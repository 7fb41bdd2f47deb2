"""A maker of files that try to run code when they are read, and proof of whether they did.

Every attack, if it works, leaves the file `ran` in the folder it was made for.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from attnseg.config import TrainConfig
from attnseg.runs.archive import KEY
from attnseg.runs.checkpoints import export_safetensors, load_checkpoints
from attnseg.runs.folder import RunFolder

MODULE = "lying_here"  # of a module in the working directory
_UNET = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [8, 16],
    "strides": [2],
}


class Reduced:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def ran(folder: Path) -> Path:
    """The file that says an attack has worked."""
    return folder / "ran"


def lay_out(folder: Path) -> None:
    """Make the files that some attacks lead to."""
    code = _code(folder)
    network = "import torch\nclass Net(torch.nn.Conv2d): ...\n"
    (folder / f"{MODULE}.py").write_text(code + network)
    (folder / "hubconf.py").write_text(f"{code}def net(): ...\n")
    (folder / "pickled.pt").write_bytes(pickle.dumps(Reduced(f"touch {ran(folder)}")))
    for package in ("monai", "monai/networks", "monai/networks/nets"):
        (folder / "shadow" / package).mkdir(parents=True)
        (folder / "shadow" / package / "__init__.py").write_text(code + network)


def _code(folder: Path) -> str:
    return f"import pathlib\npathlib.Path({str(ran(folder))!r}).touch()\n"


def attacks(folder: Path) -> dict[str, dict[str, Any]]:
    """`model.network` sections by name."""
    touch, code = f"touch {ran(folder)}", _code(folder)
    os_system = {"_target_": "os.system", "command": touch}
    monai = "monai.networks.nets"
    return {
        "os.system": os_system,
        "posix.system": {"_target_": "posix.system", "command": touch},
        "Popen": {"_target_": "subprocess.Popen", "args": ["touch", str(ran(folder))]},
        "run": {"_target_": "subprocess.run", "args": ["touch", str(ran(folder))]},
        "eval": {"_target_": "builtins.eval", "source": f"__import__('os').system({touch!r})"},
        "exec": {"_target_": "builtins.exec", "source": code},
        "timeit": {"_target_": "timeit.timeit", "stmt": code, "number": 1},
        "a class that writes": {"_target_": "logging.FileHandler", "filename": str(ran(folder))},
        "a class that is no module": {"_target_": "pathlib.Path"},
        "partial": {"_target_": "functools.partial", "func": os_system},
        "call": {"_target_": "hydra.utils.call", "config": os_system},
        "instantiate": {"_target_": "hydra.utils.instantiate", "config": os_system},
        "get_method": {"_target_": "hydra.utils.get_method", "path": f"{MODULE}.Net"},
        "import_module": {"_target_": "importlib.import_module", "name": MODULE},
        "a module lying here": {"_target_": f"{MODULE}.Net", "in_channels": 1, "out_channels": 1},
        "torch.load": {
            "_target_": "torch.load",
            "f": str(folder / "pickled.pt"),
            "weights_only": False,
        },
        "torch.hub": {
            "_target_": "torch.hub.load",
            "repo_or_dir": str(folder),
            "source": "local",
            "model": "net",
        },
        "torch.nn": {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1},
        "a function of ours": {
            "_target_": "attnseg.common.files.write_text",
            "path": str(ran(folder)),
            "text": "",
        },
        "a class of ours": {"_target_": "attnseg.sweeps.worker.JobRunner", "sweep": "x"},
        "through a module of ours": {
            "_target_": "attnseg.common.files.os.system",
            "command": touch,
        },
        "re-exported by us": {"_target_": "attnseg.common.files.Path"},
        "MONAI's importer": {
            "_target_": "monai.utils.module.optional_import",
            "module": MODULE,
        },
        "MONAI's bundles": {"_target_": "monai.bundle.ConfigParser", "config": os_system},
        "MONAI's hub": {"_target_": "monai.losses.PerceptualLoss", "spatial_dims": 2},
        "a function of MONAI's": {"_target_": f"{monai}.resnet10", "pretrained": True},
        "re-exported by MONAI": {"_target_": "monai.networks.nets.unet.Sequence"},
        "nested": {"_target_": f"{monai}.UNet", **_UNET, "act": os_system},
        "deeply nested": {
            "_target_": f"{monai}.UNet",
            **_UNET,
            "act": ["prelu", {"a": [os_system]}],
        },
        "_args_": {"_target_": f"{monai}.UNet", **_UNET, "_args_": [os_system]},
        "_partial_": {"_target_": f"{monai}.UNet", **_UNET, "_partial_": True},
        "no name": {"_target_": ["os", "system"]},
        "no dots": {"_target_": "eval"},
        "odd dots": {"_target_": "os..system"},
    }


NAMES = tuple(attacks(Path()))


def small_run(folder: RunFolder, config: TrainConfig) -> RunFolder:
    """A good run as far as reading goes, with one tensor for weights."""
    record = {"version": "0", "config": config.model_dump(mode="json"), "identity": "abcd1234"}
    content = {"epoch": 1, "global_step": 4, "state_dict": {"model.x": torch.zeros(1)}, KEY: record}
    folder.last.parent.mkdir(parents=True)
    for path in (folder.best, folder.last):
        torch.save(content, path)
    return folder


def as_ckpt(good: RunFolder, network: dict[str, Any], path: Path) -> Path:
    """The run's checkpoint with that network in its configuration."""
    content = torch.load(good.last, weights_only=True)
    content[KEY]["config"] = _with(content[KEY]["config"], network)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def as_safetensors(good: RunFolder, network: dict[str, Any], path: Path) -> Path:
    """The same, exported."""
    path.parent.mkdir(parents=True, exist_ok=True)
    export_safetensors(load_checkpoints(str(good.last)), path)
    with safe_open(path, framework="pt") as archive:
        record = json.loads(archive.metadata()[KEY])
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    record["config"] = _with(record["config"], network)
    save_file(tensors, path, metadata={KEY: json.dumps(record)})
    return path


def as_run(good: RunFolder, network: dict[str, Any], path: Path) -> Path:
    """A whole run folder."""
    run = RunFolder(path)
    for checkpoint in (run.best, run.last):
        as_ckpt(good, network, checkpoint)
    for name in ("status.json", "metrics.csv"):
        if (good.path / name).is_file():
            shutil.copy(good.path / name, path)
    if run.status.is_file():  # a run of its own
        run.update_status(id=path.name)
    config = _with(torch.load(good.last, weights_only=True)[KEY]["config"], network)
    run.config.write_text(yaml.safe_dump(config))
    return path


def as_ensemble(good: RunFolder, network: dict[str, Any], path: Path) -> Path:
    """A folder whose ensemble.txt lists the good run and the bad file."""
    as_ckpt(good, network, path / "member.ckpt")
    (path / "ensemble.txt").write_text(f"{good.path.resolve()}\nmember.ckpt\n")
    return path


CARRIERS: dict[str, Callable[[RunFolder, dict[str, Any], Path], Path]] = {
    "evil.ckpt": as_ckpt,
    "evil.safetensors": as_safetensors,
    "run": as_run,
    "ensemble": as_ensemble,
}


def _with(config: dict[str, Any], network: dict[str, Any]) -> dict[str, Any]:
    attention = {**config["attention"], "name": "none"}
    return {**config, "attention": attention, "model": {"name": "monai", "network": network}}


@contextmanager
def nothing_runs(folder: Path) -> Iterator[None]:
    """Assert that within the block no attack made for this folder has worked."""
    assert not ran(folder).exists()
    yield
    assert not ran(folder).exists(), "the file's code was run"
