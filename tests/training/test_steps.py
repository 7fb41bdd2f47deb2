"""What a training step does to weights and statistics: clipping, decay, rates, what is frozen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from attnseg.training.callbacks.phase_switching import PhaseSwitching
from attnseg.training.fit import fit
from attnseg.training.module import AttnSegModule
from attnseg.training.optimizers import AdamW, group_of
from tests.conftest import configure

BATCH_NORM = ("model.encoder.norm=batch", "schedule=three_phase", "schedule.total_epochs=3")


class Steps(list[dict[str, Any]]):
    """Norm of all gradients, and the rate of each group, at every step of the optimizer."""

    def watch(self, step: Any) -> Any:
        def watched(optimizer: torch.optim.Optimizer, *given: Any, **named: Any) -> Any:
            result = step(optimizer, *given, **named)  # the closure has computed the gradients
            gradients = [
                parameter.grad
                for group in optimizer.param_groups
                for parameter in group["params"]
                if parameter.grad is not None
            ]
            norm = torch.stack([gradient.norm() for gradient in gradients]).norm().item()
            rates = {group_of(group): group["lr"] for group in optimizer.param_groups}
            self.append({"norm": norm, "rates": rates})
            return result

        return watched


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    seen = Steps()
    monkeypatch.setattr(AdamW, "step", seen.watch(torch.optim.AdamW.step))
    return seen


def trained(folder: Path, *words: str) -> None:
    short = ("logger=none", "trainer.max_epochs=1")
    assert fit(configure(folder, *short, *words)) == 0


def test_gradients_are_clipped_to_the_norm(steps: Steps, tmp_path: Path) -> None:
    trained(tmp_path, "optim.gradient_clip_norm=1e-4")
    assert [step["norm"] for step in steps] == pytest.approx([1e-4] * 2, rel=1e-2)


def test_a_phase_scales_the_rates_of_its_groups(steps: Steps, tmp_path: Path) -> None:
    rate = ("optim.lr=1e-3", "optim.lr_schedule.kind=constant", "optim.lr_schedule.warmup_epochs=0")
    groups = "optim.lr_factors={attention:2,head:1,backbone:0.5}"
    phase = "schedule.phases.attention_supervision.lr_factors={attention:3,backbone:0}"
    trained(tmp_path, *rate, groups, phase, "optim.gradient_clip_norm=null")
    assert len(steps) == 2
    for step in steps:
        assert step["rates"]["attention"] == pytest.approx(6e-3)
        assert step["rates"]["head"] == pytest.approx(1e-3)
        assert step["rates"]["backbone"] == 0
        assert step["norm"] > 1e-2  # not clipped


def test_weight_decay_spares_norms_biases_and_scalars(tmp_path: Path) -> None:
    words = ("optim.weight_decay=0.5", "optim.lr=0.1", "model.encoder.norm=batch")
    module = AttnSegModule(configure(tmp_path, *words, "attention.learned_temperature=true"))
    optimizer = module.configure_optimizers()
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)  # decay alone moves a weight
    optimizer.step()
    spared = {name for name, value in module.named_parameters() if value.ndim <= 1}
    assert any("bias" in name for name in spared) and any("log_value" in name for name in spared)
    for name, value in module.named_parameters():
        wanted = before[name] * (1.0 if name in spared else 0.95)
        torch.testing.assert_close(value, wanted, msg=name)


def _statistics(module: AttnSegModule, group: str) -> list[_BatchNorm]:
    members = {id(parameter) for parameter in module.model.parameter_groups()[group]}
    return [
        part
        for part in module.model.modules()
        if isinstance(part, _BatchNorm) and id(part.weight) in members
    ]


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_start"])
def test_frozen_batch_norms_keep_their_statistics(hook: str, tmp_path: Path) -> None:
    phase = "schedule.phases.attention_only.frozen=[backbone]"
    module = AttnSegModule(configure(tmp_path, *BATCH_NORM, phase)).train()
    norms = _statistics(module, "backbone")
    assert norms
    callback = PhaseSwitching(module.config)
    for epoch, moves in ((0, False), (1, True)):
        before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
        epoch_of = SimpleNamespace(current_epoch=epoch, num_training_batches=4)
        epoch_of.accumulate_grad_batches = 1
        getattr(callback, hook)(epoch_of, module)
        module(torch.randn(2, 1, 64, 64), torch.randn(2, 1, 64, 64))
        for norm, old in zip(norms, before, strict=True):
            assert norm.running_mean is not None
            assert torch.equal(norm.running_mean, old) != moves


def test_a_training_leaves_frozen_statistics_alone(tmp_path: Path) -> None:
    from attnseg.runs.checkpoints import load_checkpoints

    trained(tmp_path, *BATCH_NORM, "schedule.phases.attention_only.frozen=[backbone]")
    [loaded] = load_checkpoints(str(tmp_path / "checkpoints" / "last.ckpt"))
    counts = {
        name: int(value)
        for name, value in loaded.weights.items()
        if name.endswith("num_batches_tracked")
    }
    assert {count for name, count in counts.items() if name.startswith("xray_encoder")} == {0}
    others = {count for name, count in counts.items() if not name.startswith("xray_encoder")}
    assert others == {2}, counts
