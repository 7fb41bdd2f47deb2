"""The LightningModule's own part: groups of the optimizer, weights, steps and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attnseg.runs.archive import KEY
from attnseg.training.module import AttnSegModule
from attnseg.training.optimizers import group_of
from attnseg.training.record import MadeOf
from tests.conftest import configure


def batch(size: int = 64) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    xray, drr = torch.rand((2, 2, 1, size, size), generator=generator)
    mask = torch.zeros(2, 1, size, size)
    mask[0, 0, 20:30, 20:30] = 1.0
    return {"xray": xray, "drr": drr, "mask": mask}


def test_norms_and_biases_are_not_decayed_and_every_parameter_is_in_one_group(
    tmp_path: Path,
) -> None:
    words = ("optim.weight_decay=0.3", "optim.lr=0.02", "optim.betas=[0.8,0.9]")
    module = AttnSegModule(configure(tmp_path, *words, "schedule=uncertainty"))
    optimizer = module.configure_optimizers()
    seen = []
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"]) == (0.02, (0.8, 0.9))
        for parameter in group["params"]:
            seen.append(id(parameter))
            own = group_of(group) == "loss"  # the uncertainties, which decay would pull to 1
            assert group["weight_decay"] == (0.3 if parameter.ndim > 1 and not own else 0.0)
    assert sorted(seen) == sorted(id(parameter) for parameter in module.parameters())
    by_name = {id(p): group_of(group) for group in optimizer.param_groups for p in group["params"]}
    for name, members in module.model.parameter_groups().items():
        assert {by_name[id(parameter)] for parameter in members} == {name}


def test_parameters_that_are_off_are_not_optimised(tmp_path: Path) -> None:
    module = AttnSegModule(configure(tmp_path))
    off = module.model.parameter_groups()["head"]
    for parameter in off:
        parameter.requires_grad_(False)
    names = {group_of(group) for group in module.configure_optimizers().param_groups}
    assert names == {"attention", "backbone"}


def test_what_a_model_lacks_has_no_weight(tmp_path: Path) -> None:
    words = ("attention=none", "callbacks.early_stopping.enabled=false")
    assert AttnSegModule(configure(tmp_path)).base_weights()["attention"] > 0.0
    weights = AttnSegModule(configure(tmp_path, *words)).base_weights()
    assert weights == {"segmentation": 1.0, "attention": 0.0, "alignment": 0.0}


@pytest.mark.parametrize("schedule", ["two_phase", "uncertainty", "gradnorm"])
def test_a_step_gives_the_weighted_total_and_leaves_its_record(
    schedule: str, tmp_path: Path
) -> None:
    module = AttnSegModule(configure(tmp_path, f"schedule={schedule}", "seed=3"))
    if schedule == "uncertainty":
        with torch.no_grad():
            module.adaptive.log_variance.fill_(0.7)  # type: ignore[union-attr,operator]
    given = batch()
    learned = module.adaptive.state_dict() if module.adaptive else {}
    before = {name: value.clone() for name, value in learned.items()}
    total = module.training_step(given, 0)
    assert total.requires_grad
    record = module.record.last_step
    assert record is not None
    assert record.batch is given
    assert not any(value.requires_grad for value in record.terms.values())
    assert not any(tensor.requires_grad for tensor in record.output[:3])
    base = module.base_weights()
    weights: Any = module.adaptive.weights(base) if module.adaptive else base
    with torch.no_grad():
        expected = sum(weights[n] * record.terms[n] for n in weights if base[n] > 0)
    if schedule == "uncertainty":
        expected = expected + module.adaptive.regulariser(base).detach()  # type: ignore[union-attr]
    if schedule == "gradnorm":  # which has learned after its weights were used
        assert any(not torch.equal(learned[name], value) for name, value in before.items())
    else:
        assert float(total.detach()) == pytest.approx(float(expected), rel=1e-5)


def test_validation_learns_nothing_and_adds_no_regulariser(tmp_path: Path) -> None:
    module = AttnSegModule(configure(tmp_path, "schedule=uncertainty"))
    with torch.no_grad():
        module.adaptive.log_variance.fill_(0.7)  # type: ignore[union-attr,operator]
    module.eval()
    module.validation_step(batch(), 0)
    base, terms = module.base_weights(), module.record.step.terms
    weights = module.adaptive.weights(base)  # type: ignore[union-attr]
    with torch.no_grad():
        expected = sum(weights[n] * terms[n] for n in weights if base[n] > 0)
    assert float(terms["total"]) == pytest.approx(float(expected), rel=1e-5)


def test_gradnorm_looks_at_one_layer_of_the_backbone(tmp_path: Path) -> None:
    module = AttnSegModule(configure(tmp_path, "schedule=gradnorm"))
    (layer,) = module._shared()
    backbone = [p for p in module.model.parameter_groups()["backbone"] if p.ndim > 1]
    assert layer is backbone[-1]


def test_a_checkpoint_holds_the_threshold_and_brings_it_back(tmp_path: Path) -> None:
    first, second = (AttnSegModule(configure(tmp_path)) for _ in range(2))
    first.threshold, first.made = 0.375, MadeOf(data={"source": "x"})
    checkpoint: dict[str, Any] = {"state_dict": first.state_dict(), "optimizer_states": []}
    first.on_save_checkpoint(checkpoint)
    assert checkpoint[KEY]["data"] == {"source": "x"}
    second.on_load_checkpoint(checkpoint)
    assert second.threshold == 0.375


def test_the_seed_decides_the_first_weights(tmp_path: Path) -> None:
    one, same, other = (
        AttnSegModule(configure(tmp_path, f"seed={seed}")).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
