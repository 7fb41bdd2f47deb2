"""Self-supervised pre-training: what is hidden, and that a run starts from what it leaves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from attnseg.training.module import AttnSegModule
from attnseg.training.origin import warm_start
from experiments.lidc_pretraining.restoration import hidden_blocks, main
from tests.conftest import TINY, configure


def test_half_of_the_blocks_of_each_image_are_hidden_whole() -> None:
    images = torch.zeros(3, 1, 64, 96)
    hidden = hidden_blocks(images, 16, 0.5, torch.Generator().manual_seed(0))
    blocks = hidden.unfold(2, 16, 16).unfold(3, 16, 16).float().mean((-2, -1))
    assert set(blocks.unique().tolist()) == {0.0, 1.0}
    assert blocks.flatten(1).mean(1).tolist() == [0.5, 0.5, 0.5]
    assert not torch.equal(hidden[0], hidden[1])


def test_a_run_starts_from_what_was_pretrained_but_for_the_last_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "restoration"
    words = ["--experiment", "demo", "--output", str(out), "--epochs", "2", *TINY]
    monkeypatch.setattr(sys, "argv", ["restoration.py", *words])
    main()
    said = capsys.readouterr().out
    assert str(out / "last.ckpt") in said and "epoch 2: error" in said
    config = configure(tmp_path / "run", f"warmstart={out / 'last.ckpt'}")
    model = AttnSegModule(config).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    record = warm_start(config, model)
    assert record["fresh"] == ["attention.trunk.refine.2", "head.1.conv"]
    for part in ("xray_encoder", "drr_encoder", "decoder"):  # all of them had learnt something
        name = next(name for name in before if name.startswith(part))
        assert not torch.equal(before[name], model.state_dict()[name]), name
