"""Checkpoints: read without executing code, refused with a reason, exported and read back."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from attnseg.build import build_model
from attnseg.common.errors import CheckpointError
from attnseg.config import TrainConfig
from attnseg.runs.archive import KEY
from attnseg.runs.checkpoints import (
    export_safetensors,
    find_checkpoint,
    load_checkpoints,
    read_checkpoint,
)


@pytest.fixture
def checkpoint(train_config: TrainConfig, tmp_path: Path) -> Path:
    """What a run would write, without the run."""
    model = build_model(train_config.model, train_config.attention)
    content = {
        "epoch": 3,
        "state_dict": {f"model.{k}": v for k, v in model.state_dict().items()},
        KEY: {
            "version": "0",
            "config": train_config.model_dump(mode="json"),
            "identity": "abcd1234",
            "threshold": 0.3,
            "data": {"train_patients": ["p1"]},
        },
    }
    path = tmp_path / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    torch.save(content, path)
    return path


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.flag}",)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    flag, path = tmp_path / "flag", tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, KEY: Malicious(flag)}, path)
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoints(str(path))[0]
    path.write_bytes(pickle.dumps(Malicious(flag)))
    with pytest.raises(CheckpointError):
        load_checkpoints(str(path))[0]
    assert not flag.exists()


def test_a_run_folder_means_its_best_checkpoint(checkpoint: Path) -> None:
    assert find_checkpoint(str(checkpoint.parents[1])) == checkpoint
    loaded = load_checkpoints(str(checkpoint.parents[1]))[0]
    assert (loaded.threshold, loaded.identity, loaded.epoch) == (0.3, "abcd1234", 3)
    model = build_model(loaded.config.model, loaded.config.attention)
    loaded.load_into(model)
    name, value = next(iter(loaded.weights.items()))
    assert torch.equal(model.state_dict()[name], value)


def test_safetensors_carry_config_and_threshold(checkpoint: Path, tmp_path: Path) -> None:
    original = load_checkpoints(str(checkpoint))[0]
    path = tmp_path / "small.safetensors"
    export_safetensors([original], path)
    back = load_checkpoints(str(path))[0]
    assert (back.config, back.threshold, back.identity) == (
        original.config,
        original.threshold,
        original.identity,
    )
    assert back.weights.keys() == original.weights.keys()
    assert all(torch.equal(back.weights[k], v) for k, v in original.weights.items())


def test_an_ensemble_is_one_file_and_half_precision_keeps_running_statistics(
    checkpoint: Path, tmp_path: Path
) -> None:
    one = load_checkpoints(str(checkpoint))[0]
    wide = {"norm.running_mean": torch.tensor([1e-9]), "norm.running_var": torch.tensor([1e6])}
    one = replace(one, weights=one.weights | wide)
    doubled = {name: value * 2 for name, value in one.weights.items()}
    other = replace(one, weights=doubled, identity="other", threshold=0.5)
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    export_safetensors([one, other], whole)
    export_safetensors([one, other], half, half=True)
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    for path in (whole, half):
        back = load_checkpoints(str(path))
        assert [(m.identity, m.threshold) for m in back] == [("abcd1234", 0.3), ("other", 0.5)]
        for member, original in zip(back, (one, other), strict=True):
            assert member.weights.keys() == original.weights.keys()
            for name, value in member.weights.items():
                expected = original.weights[name]
                exact = path == whole or name in wide
                assert value.dtype == expected.dtype
                torch.testing.assert_close(
                    value, expected, rtol=0 if exact else 1e-3, atol=0 if exact else 1e-7
                )


def test_weights_of_another_model_are_named(checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content[KEY]["config"]["model"]["decoder_channels"] = 40
    torch.save(content, checkpoint)
    loaded = load_checkpoints(str(checkpoint))[0]
    model = build_model(loaded.config.model, loaded.config.attention)
    with pytest.raises(CheckpointError, match="do not fit the model"):
        loaded.load_into(model)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read|no checkpoint"),
        (b"not a checkpoint at all", "refused|cannot be read"),
        (b"hello\nworld\n" * 50, "cannot be read"),  # a pickle with a wrong memo, to torch
    ],
)
def test_rubbish_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(path)


def test_a_truncated_checkpoint_is_refused(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match=r"best\.ckpt"):
        load_checkpoints(str(checkpoint))[0]


def test_bare_weights_and_missing_files_say_what_to_do(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "bare.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of attnseg"):
        load_checkpoints(str(tmp_path / "bare.pt"))[0]
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoints(str(tmp_path / "nothing.ckpt"))[0]
    with pytest.raises(CheckpointError, match=r"holds no checkpoints/best\.ckpt"):
        load_checkpoints(str(tmp_path))[0]


def test_a_config_of_another_version_is_named(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content[KEY]["config"]["model"]["warp"] = 9
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match=r"another version.*\n.*model\.warp"):
        load_checkpoints(str(checkpoint))[0]


@pytest.mark.parametrize(("key", "value"), [("config", "text"), ("threshold", "high")])
def test_a_record_that_makes_no_sense_is_refused(key: str, value: str, checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content[KEY][key] = value
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match=r"best\.ckpt"):
        load_checkpoints(str(checkpoint))[0]


def test_safetensors_with_broken_metadata_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={KEY: "{no json"})
    with pytest.raises(CheckpointError, match="metadata cannot be read"):
        load_checkpoints(str(path))[0]
