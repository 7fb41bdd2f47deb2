from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attnseg.build import build_weighting
from attnseg.config import component
from attnseg.losses.adaptive import GROUPS, AdaptiveWeights

BASE: dict[str, float] = {"segmentation": 1.0, "attention": 0.5, "alignment": 0.1}
NO_ALIGNMENT = BASE | {"alignment": 0.0}
CONFIGS = {
    "uncertainty": {"name": "uncertainty"},
    "dwa": {"name": "dwa"},
    "gradnorm": {"name": "gradnorm", "alpha": 0.0},
}


def build(name: str, **changes: float) -> AdaptiveWeights:
    adaptive = build_weighting(component("weighting", {**CONFIGS[name], **changes}), GROUPS)
    assert adaptive is not None
    return adaptive


def numbers(adaptive: AdaptiveWeights, base: dict[str, float] = BASE) -> list[float]:
    return [value.item() for value in adaptive.multipliers(base).values()]


def linear_terms(shared: nn.Parameter, *slopes: float) -> dict[str, Tensor]:
    """Terms whose gradient norm in the shared parameter is known: |slope|."""
    return {n: 1.0 + s * shared.sum() for n, s in zip(BASE, slopes, strict=True)}


def stir(adaptive: AdaptiveWeights) -> None:
    """Give it a history."""
    for parameter in adaptive.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    shared = nn.Parameter(torch.zeros(1))
    for epoch in range(3):
        adaptive.step(linear_terms(shared, 1.0, 10.0, 0.1), BASE, [shared])
        adaptive.end_epoch({"segmentation": 1.0, "attention": 0.5**epoch, "alignment": 0.7})


def test_no_section_no_weighting() -> None:
    assert build_weighting(None, GROUPS) is None


@pytest.mark.parametrize("name", CONFIGS)
def test_starts_as_the_schedule_says(name: str) -> None:
    adaptive = build(name)
    assert numbers(adaptive) == [1.0, 1.0, 1.0]
    weights = {n: torch.as_tensor(w).item() for n, w in adaptive.weights(BASE).items()}
    assert weights == pytest.approx(BASE)
    assert adaptive.regulariser(BASE).item() == 0.0


@pytest.mark.parametrize("name", CONFIGS)
def test_inactive_groups_have_multiplier_one_and_a_plain_zero_weight(name: str) -> None:
    adaptive = build(name)
    stir(adaptive)
    multipliers = adaptive.multipliers(NO_ALIGNMENT)
    assert multipliers["alignment"].item() == 1.0
    assert multipliers["attention"].item() != 1.0
    weights = adaptive.weights(NO_ALIGNMENT)
    assert weights["alignment"] == 0.0
    assert not isinstance(weights["alignment"], Tensor)  # so that it costs no backward
    torch.testing.assert_close(weights["attention"], 0.5 * multipliers["attention"])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_checkpoint_restores_it_exactly(name: str) -> None:
    adaptive, restored = build(name), build(name)
    stir(adaptive)
    assert numbers(adaptive) != numbers(restored)
    file = io.BytesIO()
    torch.save(adaptive.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert numbers(restored) == numbers(adaptive)
    shared = nn.Parameter(torch.zeros(1))
    for one in (adaptive, restored):  # and it goes on alike
        one.step(linear_terms(shared, 3.0, 1.0, 1.0), BASE, [shared])
        one.end_epoch({"segmentation": 0.9, "attention": 0.2, "alignment": 0.1})
    assert numbers(restored) == numbers(adaptive)


def test_only_uncertainty_has_trainable_parameters_and_only_gradnorm_takes_gradients() -> None:
    assert [bool(list(build(n).parameters())) for n in CONFIGS] == [True, False, False]
    assert [build(n).needs_gradients for n in CONFIGS] == [False, False, True]


class TestUncertainty:
    def test_minimum_is_at_half_the_inverse_loss_whatever_the_base(self) -> None:
        adaptive = build("uncertainty")
        losses = torch.tensor([0.25, 2.0, 0.05])
        optimizer = torch.optim.Adam(adaptive.parameters(), lr=0.05)
        for _ in range(400):
            optimizer.zero_grad()
            weights = torch.stack([torch.as_tensor(w) for w in adaptive.weights(BASE).values()])
            ((weights * losses).sum() + adaptive.regulariser(BASE)).backward()
            optimizer.step()
        assert numbers(adaptive) == pytest.approx([2.0, 0.25, 10.0], rel=0.02)

    def test_inactive_groups_are_not_learned(self) -> None:
        adaptive = build("uncertainty")
        weights = adaptive.weights(NO_ALIGNMENT)
        total = sum((torch.as_tensor(w) * 3.0 for w in weights.values()), torch.zeros(()))
        (total + adaptive.regulariser(NO_ALIGNMENT)).backward()
        (parameter,) = adaptive.parameters()
        # d/ds b (exp(-s) L + s / 2) at s = 0
        assert parameter.grad is not None
        assert parameter.grad.tolist() == pytest.approx([1.0 * (0.5 - 3), 0.5 * (0.5 - 3), 0.0])

    def test_a_vanishing_loss_does_not_drive_its_weight_to_infinity(self) -> None:
        adaptive = build("uncertainty")
        (parameter,) = adaptive.parameters()
        nn.init.constant_(parameter, -1e6)
        assert numbers(adaptive) == pytest.approx([math.exp(4.0)] * 3)
        assert adaptive.regulariser(BASE).isfinite()


class TestDwa:
    def test_formula(self) -> None:
        adaptive = build("dwa", temperature=2.0)
        adaptive.end_epoch({"segmentation": 1.0, "attention": 2.0, "alignment": 0.5})
        assert numbers(adaptive) == pytest.approx([1.0] * 3)  # two epochs are needed
        adaptive.end_epoch({"segmentation": 0.5, "attention": 2.0, "alignment": 0.45})
        scores = [math.exp(r / 2.0) for r in (0.5, 1.0, 0.9)]
        assert numbers(adaptive) == pytest.approx([3 * s / sum(scores) for s in scores])
        pair = [2 * s / sum(scores[:2]) for s in scores[:2]]
        assert numbers(adaptive, NO_ALIGNMENT) == pytest.approx([*pair, 1.0])

    def test_only_the_last_two_epochs_count(self) -> None:
        long, short = build("dwa"), build("dwa")
        means = [{"segmentation": x, "attention": x * x, "alignment": 1.0} for x in (9.0, 2.0, 1.0)]
        for mean in means:
            long.end_epoch(mean)
        for mean in means[1:]:
            short.end_epoch(mean)
        assert numbers(long) == numbers(short)

    def test_zero_and_missing_terms_stay_finite(self) -> None:
        adaptive = build("dwa")
        adaptive.end_epoch({"segmentation": 0.0, "attention": 1.0})
        adaptive.end_epoch({"segmentation": 0.5, "attention": 1.0})
        assert numbers(adaptive) == pytest.approx([1.0] * 3)


class TestGradNorm:
    def test_gradient_norms_become_equal_at_any_scale(self) -> None:
        slopes = (1e-2, 1.0, 30.0)
        shared, adaptive = nn.Parameter(torch.zeros(1)), build("gradnorm", lr=0.05)
        for _ in range(400):
            adaptive.step(linear_terms(shared, *slopes), BASE, [shared])
        weights = numbers(adaptive)
        assert sum(weights) == pytest.approx(3.0, rel=1e-5)
        norms = [w * s for w, s in zip(weights, slopes, strict=True)]
        assert max(norms) / min(norms) < 1.3

    def test_restoring_force_favours_the_term_that_learns_slowly(self) -> None:
        shared, adaptive = nn.Parameter(torch.zeros(1)), build("gradnorm", alpha=1.0)
        adaptive.step(linear_terms(shared, 1.0, 1.0, 1.0), BASE, [shared])
        for _ in range(200):  # equal gradients; a quarter, a half, nine tenths of the loss left
            terms = {n: left + shared.sum() for n, left in zip(BASE, (0.25, 0.5, 0.9), strict=True)}
            adaptive.step(terms, BASE, [shared])
        expected = [3 * left / (0.25 + 0.5 + 0.9) for left in (0.25, 0.5, 0.9)]
        assert numbers(adaptive) == pytest.approx(expected, rel=0.1)

    def test_one_step_by_hand(self) -> None:
        shared, adaptive = nn.Parameter(torch.zeros(1)), build("gradnorm", lr=0.1)
        adaptive.step(linear_terms(shared, 1.0, 3.0, 0.0), NO_ALIGNMENT, [shared])
        # relative norms 0.5 and 1.5: one rises by 0.05 in its logarithm, the other falls by 0.15
        raw = [math.exp(0.05), math.exp(-0.15)]
        expected = [2 * x / sum(raw) for x in raw]
        assert numbers(adaptive, NO_ALIGNMENT) == pytest.approx([*expected, 1.0])

    def test_the_graph_is_kept_for_the_backward_and_no_gradient_is_left(self) -> None:
        shared, adaptive = nn.Parameter(torch.ones(3)), build("gradnorm")
        terms = {n: (shared**2).sum() * s for n, s in zip(BASE, (1.0, 2.0, 3.0), strict=True)}
        adaptive.step(terms, BASE, [shared])
        assert shared.grad is None
        terms["segmentation"].backward()
        assert shared.grad is not None

    def test_progress_is_counted_anew_when_a_group_joins(self) -> None:
        shared, adaptive = nn.Parameter(torch.zeros(1)), build("gradnorm")
        terms = linear_terms(shared, 1.0, 1.0, 1.0)
        adaptive.step(terms, NO_ALIGNMENT, [shared])
        initial = adaptive.state_dict()["initial"]
        assert initial.isnan().tolist() == [False, False, True]
        later = {n: t * 0.5 for n, t in terms.items()}
        adaptive.step(later, NO_ALIGNMENT, [shared])
        assert initial[:2].tolist() == [1.0, 1.0]
        adaptive.step(later, BASE, [shared])
        assert initial.tolist() == [0.5, 0.5, 0.5]

    @pytest.mark.parametrize("kind", ["no gradient", "frozen", "nan", "no graph"])
    def test_steps_that_teach_nothing_change_nothing(self, kind: str) -> None:
        shared, adaptive = nn.Parameter(torch.zeros(1)), build("gradnorm")
        stir(adaptive)
        before = numbers(adaptive)
        terms = linear_terms(shared, 1.0, 2.0, 3.0)
        if kind == "no gradient":
            terms = linear_terms(nn.Parameter(torch.zeros(1)), 1.0, 2.0, 3.0)
        elif kind == "frozen":
            shared.requires_grad_(False)
        elif kind == "nan":
            terms["attention"] = terms["attention"] * torch.nan
        else:
            terms = {n: t.detach() for n, t in terms.items()}
        adaptive.step(terms, BASE, [shared])
        assert numbers(adaptive) == before

    def test_a_group_without_a_gradient_keeps_its_weight(self) -> None:
        shared, adaptive = nn.Parameter(torch.zeros(1)), build("gradnorm")
        for _ in range(300):
            adaptive.step(linear_terms(shared, 1.0, 4.0, 0.0), BASE, [shared])
        segmentation, attention, alignment = numbers(adaptive)
        assert alignment == pytest.approx(1.0, rel=1e-4)
        assert segmentation / attention == pytest.approx(4.0, rel=0.1)

    def test_terms_at_zero_have_no_rate_and_are_balanced_by_their_gradients(self) -> None:
        shared = nn.Parameter(torch.zeros(1))
        forced, plain = build("gradnorm", alpha=1.5), build("gradnorm", alpha=0.0)
        for _ in range(3):
            terms = {n: s * shared.sum() for n, s in zip(BASE, (1.0, 2.0, 3.0), strict=True)}
            forced.step(terms, BASE, [shared])
            plain.step(terms, BASE, [shared])
        assert numbers(forced) == numbers(plain) != [1.0] * 3


def _rank(rank: int, folder: str) -> None:
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.set_num_threads(1)
    shared, gradnorm, dwa = nn.Parameter(torch.zeros(1)), build("gradnorm"), build("dwa")
    for step in range(3):
        slopes = (1.0, 4.0 * rank, 2.0)  # the ranks see different batches
        terms = linear_terms(shared, *slopes)
        if step == 1 and rank == 1:
            terms["attention"] = terms["attention"] * torch.nan  # one rank's trouble is everyone's
        gradnorm.step(terms, BASE, [shared])
        dwa.end_epoch({"segmentation": 1.0 + rank * step, "attention": 1.0, "alignment": 1.0})
    torch.save([numbers(gradnorm), numbers(dwa)], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_ranks_stay_equal(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_rank, (str(tmp_path),), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first == second
    shared, alone = nn.Parameter(torch.zeros(1)), build("gradnorm")
    for _ in range(2):  # the mean of the ranks' gradient norms; the NaN step was left out
        alone.step(linear_terms(shared, 1.0, 2.0, 2.0), BASE, [shared])
    assert first[0] == pytest.approx(numbers(alone))
    assert first[1] != pytest.approx([1.0] * 3)
