"""A damaged checkpoint is noticed, whichever bit it is, and the message says what is left."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from attnseg.cli import main
from attnseg.common.errors import CheckpointError
from attnseg.nn.weights import _tensors
from attnseg.runs.archive import DIGEST, KEY, read_archive, write_archive
from attnseg.runs.checkpoints import read_checkpoint, save_checkpoint
from attnseg.runs.folder import RunFolder
from attnseg.training.fit import fit
from tests.conftest import TINY, configure
from tests.exactness import assert_equal_runs, same

_FLIPS = 50


def content() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    weights = {f"model.{n}": torch.randn(n, 7, generator=generator) for n in (3, 50, 200)}
    return {"epoch": 2, "global_step": 12, "state_dict": weights, KEY: {"threshold": 0.3}}


def flip(path: Path, whole: bytes, bit: int) -> None:
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)


def bits(whole: bytes) -> list[int]:
    """Some everywhere, and some of where names, sizes and offsets are: beginning and end."""
    draw, n = random.Random(0), 8 * len(whole)
    ends = [draw.randrange(8 * 120) for _ in range(_FLIPS // 4)]
    ends += [n - 1 - draw.randrange(8 * 300) for _ in range(_FLIPS // 4)]
    return [*ends, *(draw.randrange(n) for _ in range(_FLIPS // 2))]


def never_silent(path: Path, read: Callable[[Path], Any], chosen: list[int]) -> int:
    """Flip each bit in turn; returns how often that was noticed: the rest has changed nothing."""
    whole, noticed = path.read_bytes(), 0
    expected = read(path)
    for bit in chosen:
        flip(path, whole, bit)
        try:
            found = read(path)
        except CheckpointError:
            noticed += 1
        else:
            assert same(found, expected), f"bit {bit} of {8 * len(whole)} changes it silently"
    path.write_bytes(whole)
    return noticed


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save_checkpoint(content(), path)
    assert never_silent(path, read_checkpoint, bits(path.read_bytes())) > 0.6 * _FLIPS


def test_a_flipped_bit_in_safetensors_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    models = [({"threshold": 0.3, "config": {"seed": k}}, content()["state_dict"]) for k in (1, 2)]
    for half in (False, True):
        write_archive(path, models, half=half)
        assert never_silent(path, read_archive, bits(path.read_bytes())) > 0.9 * _FLIPS


def test_bits_of_the_zips_directory(tmp_path: Path) -> None:
    """One of them (a file marked as a folder) let torch give memory that nobody had filled."""
    path = tmp_path / "a.ckpt"
    save_checkpoint({"x": torch.ones(3)}, path)
    whole = path.read_bytes()
    first = whole.index(b"PK\1\2")
    marks = [8 * (match.start() + 38) + 4 for match in re.finditer(b"PK\1\2", whole)]
    assert never_silent(path, read_checkpoint, marks) == len(marks)
    never_silent(path, read_checkpoint, list(range(8 * first, 8 * len(whole), 7)))


@pytest.mark.full
def test_every_bit_of_small_files(tmp_path: Path) -> None:
    ckpt, archive = tmp_path / "a.ckpt", tmp_path / "a.safetensors"
    save_checkpoint({"epoch": 1, "x": torch.ones(3), KEY: {"threshold": 0.3}}, ckpt)
    write_archive(archive, [({"threshold": 0.3}, {"x": torch.ones(3)})])
    for path, read in ((ckpt, read_checkpoint), (archive, read_archive)):
        never_silent(path, read, list(range(8 * len(path.read_bytes()))))


def test_a_file_of_before_there_were_digests_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file({"x": torch.ones(2)}, path, metadata={KEY: '{"threshold": 0.3}'})
    [(record, weights)] = read_archive(path)
    assert record == {"threshold": 0.3} and torch.equal(weights["x"], torch.ones(2))
    write_archive(path, [(record, weights)])
    assert DIGEST.encode() in path.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "empty", "legacy", "other bytes"])
def test_what_is_no_whole_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(content(), path)
    whole = path.read_bytes()
    if damage == "legacy":  # attnseg never wrote it, and it holds no checksums
        torch.save(content(), path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes({"cut": whole[:-2000], "empty": b""}.get(damage, b"PK" + whole[:500]))
    with pytest.raises(CheckpointError, match=r"last\.ckpt: cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_initial_weights_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pt"
    torch.save(content()["state_dict"], path)
    assert never_silent(path, _tensors, bits(path.read_bytes())) > 0.6 * _FLIPS
    torch.save(content()["state_dict"], path, _use_new_zipfile_serialization=False)
    assert same(_tensors(path), content()["state_dict"])  # of torch before 1.6
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        _tensors(path)


def spoil(path: Path) -> None:
    flip(path, path.read_bytes(), 4 * path.stat().st_size)


def test_a_run_whose_last_checkpoint_is_damaged_goes_on_as_the_message_says(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    words = ["train", *TINY, f"run.dir={folder.path}"]
    assert main([*words, "trainer.max_epochs=1"]) == 0
    spoil(folder.last)
    capsys.readouterr()
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "checksum or header of" in message and "is of epoch 1:" in message
    advice = re.findall(r"resume=\S+/best\.ckpt", message)
    assert len(advice) == 1
    assert main([*words, *advice]) == 0
    assert_equal_runs(folder, finished)
    capsys.readouterr()
    spoil(folder.best)
    assert main(["evaluate", f"checkpoint={folder.path}"]) == 2
    message = capsys.readouterr().err
    assert f"epoch 2: checkpoint={folder.last}" in message and "best.ckpt: cannot be" in message
    spoil(folder.last)
    assert main([*words[:-1], f"run.dir={tmp_path / 'new'}", f"fork={folder.path}"]) == 2
    assert "no other good checkpoint is left beside it\n" in capsys.readouterr().err
    assert main(words) == 0  # it is finished, and is not asked for them
    assert main([*words, f"resume={folder.path}"]) == 2
    assert "is left beside it; resume=none starts afresh" in capsys.readouterr().err


def test_a_fork_leaves_a_damaged_best_behind(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished.path, tmp_path / "parent")
    spoil(RunFolder(tmp_path / "parent").best)
    child = RunFolder(tmp_path / "child")
    words = (f"fork={tmp_path / 'parent'}", "schedule.total_epochs=3")
    assert fit(configure(child.path, *words)) == 0
    assert "note: the best checkpoint so far is not taken along" in capsys.readouterr().out
    assert [read_checkpoint(path)["epoch"] for path in (child.best, child.last)] == [2, 2]
