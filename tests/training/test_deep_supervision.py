"""A run with deep supervision, from training to a graph; weights from and for runs without."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from attnseg.build import build_model
from attnseg.cli import main
from attnseg.runs.checkpoints import load_checkpoints
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import read_ledger
from attnseg.training.fit import fit
from attnseg.training.module import AttnSegModule
from tests.conftest import configure

DEEP = "model.deep_supervision=2"
HEADS = "auxiliary_heads."


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """One tiny finished run with two auxiliary heads."""
    folder = RunFolder(tmp_path_factory.mktemp("deep") / "run")
    assert fit(configure(folder.path, DEEP)) == 0
    return folder


def test_the_ledger_has_the_coarser_levels_of_training(deep: RunFolder) -> None:
    for row in read_ledger(deep.ledger):
        value = {k: float(v) for k, v in row.items() if "loss/segmentation" in k}
        full = sum(value[f"train/loss/segmentation/{term}"] for term in ("bce", "dice", "focal"))
        coarse = [value[f"train/loss/segmentation/deep_{level}"] for level in (1, 2)]
        assert all(map(math.isfinite, coarse))
        mean = (4 * full + 2 * coarse[0] + coarse[1]) / 7
        assert value["train/loss/segmentation"] == pytest.approx(mean, rel=1e-5)
        assert not [name for name in value if name.startswith("val/") and "deep" in name]
        parts = sum(value[f"val/loss/segmentation/{term}"] for term in ("bce", "dice", "focal"))
        assert value["val/loss/segmentation"] == pytest.approx(parts, rel=1e-5)


def test_the_heads_have_learned(deep: RunFolder) -> None:
    first = AttnSegModule(configure(deep.path, DEEP)).model.state_dict()
    last = load_checkpoints(str(deep.last))[0].weights
    heads = [name for name in last if name.startswith(HEADS)]
    assert len(heads) == 4
    assert not any(torch.equal(last[name], first[name]) for name in heads)


def test_it_is_evaluated_and_exported_without_them(deep: RunFolder, tmp_path: Path) -> None:
    words = (f"checkpoint={deep.path}", f"output_dir={tmp_path / 'out'}", "accelerator=cpu")
    assert main(["evaluate", *words, "split=val"]) == 0
    weights, graph = tmp_path / "weights.safetensors", tmp_path / "graph.pt2"
    assert main(["export", f"checkpoint={deep.path}", f"output={weights}"]) == 0
    assert (
        load_checkpoints(str(weights))[0].config.model
        == load_checkpoints(str(deep.best))[0].config.model
    )
    words = (f"checkpoint={weights}", "format=exported_program", f"output={graph}")
    assert main(["export", *words]) == 0
    nodes = torch.export.load(graph).graph.nodes
    assert not [node.name for node in nodes if "auxiliary_heads" in node.name and node.users]
    assert [node.name for node in nodes if "xray_encoder" in node.name and node.users]


@pytest.mark.parametrize("there", [True, False], ids=["with", "without"])
def test_weights_warm_a_model_that_has_the_heads_or_not(
    there: bool, deep: RunFolder, finished: RunFolder, tmp_path: Path
) -> None:
    """Heads that are new start afresh, and the record says so; those without a place are left."""
    source, words = (finished, [DEEP]) if there else (deep, [])
    run = RunFolder(tmp_path)
    words += [f"warmstart={source.path}", "trainer.max_epochs=1"]
    assert fit(configure(run.path, *words)) == 0
    record = run.read_status()["warmstart"]
    fresh = [f"{HEADS}heads.{level}" for level in (0, 1)] if there else []
    assert record["fresh"] == fresh
    assert record["taken"] == record["of"] - 2 * len(fresh)
    assert (
        any(name.startswith(HEADS) for name in load_checkpoints(str(run.last))[0].weights) == there
    )


def test_the_shipped_weights_fit_as_they_did() -> None:
    for shipped in load_checkpoints("pretrained"):
        assert not any(name.startswith(HEADS) for name in shipped.weights)
        shipped.load_into(
            build_model(shipped.config.model, shipped.config.attention, load_weights=False)
        )


def test_validation_does_not_ask_for_them(
    deep: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.nn.decoder import AuxiliaryHeads

    asked: list[bool] = []
    forward = AuxiliaryHeads.forward

    def watched(heads: Any, levels: Any) -> Any:
        asked.append(heads.training)
        return forward(heads, levels)

    monkeypatch.setattr(AuxiliaryHeads, "forward", watched)
    assert fit(configure(tmp_path, DEEP, "trainer.max_epochs=1")) == 0
    assert asked and all(asked)
