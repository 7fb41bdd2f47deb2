from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import ValidationError

import attnseg
from attnseg.build import build_curve, build_schedule
from attnseg.common.errors import ConfigError
from attnseg.config import (
    LossConfig,
    ScheduleConfig,
    component,
    validate,
)
from attnseg.schedules.phases import Schedule

CONF = Path(attnseg.__file__).parents[1] / "conf"
CURVES = ("linear", "cosine", "exponential", "step")


def shipped(group: str, name: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composed = compose(f"{group}/{name}", overrides=list(overrides))
    container = OmegaConf.to_container(composed[group], resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def schedule(name: str, *overrides: str) -> Schedule:
    return build_schedule(ScheduleConfig.model_validate(shipped("schedule", name, *overrides)))


def phases(*epochs: int, total: int | None = None, **weights: Any) -> Schedule:
    each = {f"phase{i}": {"epochs": n, "weights": weights} for i, n in enumerate(epochs)}
    return build_schedule(
        ScheduleConfig.model_validate({"name": "test", "phases": each, "total_epochs": total})
    )


def made(curve: dict[str, Any]) -> Callable[[float], float]:
    return build_curve(component("curve", curve), "curve")


def rows(of: Schedule, *epochs: int) -> list[tuple[float, float, float]]:
    found = [of.weights(epoch) for epoch in epochs]
    return [(w["segmentation"], w["attention"], w["alignment"]) for w in found]


TWO_PHASE = [(1, 0.5, 0), (1, 0.1, 0), (1, 0.1, 0), (1, 0.05, 0.1)]
DOCUMENTED = {  # name: (epochs, the weights there)
    "two_phase": ((0, 49, 50, 149), TWO_PHASE),
    "three_phase": ((0, 9, 10, 49, 50, 149), [(0, 0.5, 0), (0, 0.5, 0), *TWO_PHASE]),
    "constant": ((0, 149), [(1, 0.15, 0.033)] * 2),
    "none": ((0, 149), [(1, 0, 0)] * 2),
    "original_decay": ((0, 15, 68, 149), [(1, 0.5, 0), (1, 0.4, 0), (1, 0.05, 0), (1, 0.05, 0)]),
    "uncertainty": ((0, 49, 50, 149), TWO_PHASE),
    "dwa": ((0, 49, 50, 149), TWO_PHASE),
    "gradnorm": ((0, 49, 50, 149), TWO_PHASE),
}


class TestShipped:
    def test_every_schedule_is_documented_here(self) -> None:
        assert {path.stem for path in (CONF / "schedule").glob("*.yaml")} == set(DOCUMENTED)

    @pytest.mark.parametrize("name", DOCUMENTED)
    def test_weights_are_the_documented_ones(self, name: str) -> None:
        epochs, weights = DOCUMENTED[name]
        built = schedule(name)
        assert built.name == name
        assert built.total_epochs == 150
        for found, expected in zip(rows(built, *epochs), weights, strict=True):
            assert found == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("name", DOCUMENTED)
    def test_every_epoch_has_something_to_learn_from(self, name: str) -> None:
        curves = schedule(name).weight_curves().values()
        assert (np.sum(list(curves), axis=0) > 0).all()
        assert all(np.all((curve >= 0) & (curve <= 1)) for curve in curves)

    def test_adaptive_sections(self) -> None:
        configs = {n: ScheduleConfig.model_validate(shipped("schedule", n)) for n in DOCUMENTED}
        adaptive = {n: c.adaptive.model_dump() for n, c in configs.items() if c.adaptive}
        assert adaptive == {
            "uncertainty": {"name": "uncertainty"},
            "dwa": {"name": "dwa", "temperature": 2.0},
            "gradnorm": {"name": "gradnorm", "alpha": 1.5, "lr": 0.025},
        }

    def test_the_warm_up_freezes_the_head_alone(self) -> None:
        built = schedule("three_phase")
        assert [built.frozen(epoch) for epoch in (0, 9, 10, 149)] == [
            frozenset({"head"}),
            frozenset({"head"}),
            frozenset(),
            frozenset(),
        ]

    def test_constant_gives_as_much_supervision_as_two_phase(self) -> None:
        two, one = schedule("two_phase").weight_curves(), schedule("constant").weight_curves()
        for name, curve in two.items():
            assert curve.mean() == pytest.approx(one[name].mean(), abs=5e-4)

    def test_a_sweep_may_replace_a_curve_by_a_number_and_back(self) -> None:
        joint = "schedule.phases.joint.weights"
        built = schedule(
            "two_phase",
            f"{joint}.attention=0.3",
            f"{joint}.alignment={{curve: original, start: 1}}",
        )
        assert rows(built, 149)[0] == pytest.approx((1.0, 0.3, 0.1))

    @pytest.mark.parametrize("path", sorted((CONF / "loss").glob("*.yaml")), ids=lambda p: p.stem)
    def test_losses_are_valid(self, path: Path) -> None:
        config = LossConfig.model_validate(shipped("loss", path.stem))
        s, a = config.segmentation, config.attention
        weights = (s.bce, s.dice, s.focal, s.tversky, s.focal_tversky, s.blob, s.boundary)
        weights += (a.bce, a.focal, a.dice)
        assert (
            weights
            == {
                "default": (1, 1, 1, 0, 0, 0, 0, 1, 1, 0),
                "dice_bce": (1, 1, 0, 0, 0, 0, 0, 1, 0, 0),
                "tversky": (1, 0, 1, 1, 0, 0, 0, 1, 1, 0),
                "focal_tversky": (1, 0, 0, 0, 1, 0, 0, 1, 1, 0),
                "blob": (1, 1, 1, 0, 0, 0.5, 0, 1, 1, 0),
            }[path.stem]
        )

    def test_the_default_loss_spells_out_the_schema_defaults(self) -> None:
        assert shipped("loss", "default") == LossConfig().model_dump(mode="json")


class TestPhases:
    def test_boundaries(self) -> None:
        built = schedule("two_phase")
        assert built.spans() == [("attention_supervision", 0, 50), ("joint", 50, 150)]
        assert [built.phase(epoch).name for epoch in (0, 49, 50, 149)] == [
            "attention_supervision",
            "attention_supervision",
            "joint",
            "joint",
        ]
        assert [(p.index, p.epochs) for p in built.phases] == [(0, 50), (1, 100)]

    def test_beyond_the_end_is_the_last_epoch(self) -> None:
        built = schedule("two_phase")
        assert built.phase(1000) == built.phase(149)
        assert built.weights(1000) == built.weights(149)
        with pytest.raises(AssertionError):
            built.weights(-1)

    def test_unnamed_weights_rates_and_frozen_parts(self) -> None:
        config = {
            "name": "test",
            "phases": {
                "a": {"epochs": 1, "lr_factors": {"attention": 3.0}, "frozen": ["backbone"]},
                "b": {"epochs": 1},
            },
        }
        built = build_schedule(ScheduleConfig.model_validate(config))
        assert built.weights(0) == {"segmentation": 1.0, "attention": 0.0, "alignment": 0.0}
        assert built.lr_factors(0) == {"attention": 3.0, "head": 1.0, "backbone": 1.0}
        assert built.lr_factors(1) == {"attention": 1.0, "head": 1.0, "backbone": 1.0}
        assert (built.frozen(0), built.frozen(1)) == (frozenset({"backbone"}), frozenset())

    @given(st.lists(st.integers(1, 300), min_size=1, max_size=5), st.integers(0, 400))
    def test_stretching_keeps_every_phase_the_sum_and_the_ends(
        self, epochs: list[int], extra: int
    ) -> None:
        total = len(epochs) + extra
        built = phases(
            *epochs, total=total, attention={"curve": "linear", "start": 0.5, "end": 0.1}
        )
        assert built.total_epochs == total == sum(phase.epochs for phase in built.phases)
        assert built.phases[0].start == 0
        for one, other in zip(built.phases, built.phases[1:], strict=False):
            assert one.stop == other.start
        for phase in built.phases:
            assert phase.epochs >= 1
            assert built.weights(phase.stop - 1)["attention"] == 0.1
            if phase.epochs > 1:
                assert built.weights(phase.start)["attention"] == 0.5

    @pytest.mark.parametrize(
        ("total", "expected"),
        [(150, [50, 100]), (3, [1, 2]), (2, [1, 1]), (300, [100, 200]), (10, [3, 7])],
    )
    def test_stretching_is_in_proportion(self, total: int, expected: list[int]) -> None:
        assert [p.epochs for p in phases(50, 100, total=total).phases] == expected

    def test_a_tiny_phase_survives_shrinking(self) -> None:
        assert [p.epochs for p in phases(1, 1, 98, total=10).phases] == [1, 1, 8]

    def test_curves_for_plots_agree_with_the_weights(self) -> None:
        built = schedule("three_phase")
        curves = built.weight_curves()
        assert {curve.shape for curve in curves.values()} == {(150,)}
        for epoch in (0, 10, 73, 149):
            assert {name: curve[epoch] for name, curve in curves.items()} == built.weights(epoch)


class TestCurves:
    @pytest.mark.parametrize("kind", CURVES)
    @given(start=st.floats(1e-3, 1e3), end=st.floats(1e-3, 1e3))
    def test_ends_are_exact_and_the_way_is_monotone(
        self, kind: str, start: float, end: float
    ) -> None:
        curve = made({"curve": kind, "start": start, "end": end})
        values = [curve(i / 49) for i in range(50)]
        assert values[0] == start
        assert values[-1] == end
        steps = np.diff(values) * math.copysign(1.0, end - start)
        assert (steps >= -1e-9 * max(start, end)).all()

    def test_shapes_half_way(self) -> None:
        half = {kind: made({"curve": kind, "start": 0.4, "end": 0.1})(0.25) for kind in CURVES}
        assert half["linear"] == pytest.approx(0.325)
        assert half["cosine"] == pytest.approx(0.1 + 0.3 * (1 + math.cos(math.pi / 4)) / 2)
        assert half["exponential"] == pytest.approx(0.4 * 0.25**0.25)
        assert half["step"] == 0.4

    def test_stairs_have_equal_length(self) -> None:
        built = phases(12, attention={"curve": "step", "start": 0.9, "end": 0.3, "steps": 3})
        values = built.weight_curves()["attention"]
        assert values == pytest.approx([0.9] * 4 + [0.6] * 4 + [0.3] * 4)

    @pytest.mark.parametrize("total", [10, 150])
    def test_the_original_decay_runs_over_all_phases(self, total: int) -> None:
        built = phases(2, 3, total=total, attention={"curve": "original", "start": 0.5})
        for epoch in range(total):
            expected = 0.5 * max(0.1, 1 - epoch / (0.5 * total))
            assert built.weights(epoch)["attention"] == pytest.approx(expected)

    def test_a_constant_takes_no_notice_of_an_end(self) -> None:
        curve = {"curve": "constant", "start": 0.4, "end": 0.1}
        assert set(phases(50, attention=curve).weight_curves()["attention"]) == {0.4}

    def test_the_curve_may_be_left_out(self) -> None:
        built = phases(3, attention={"start": 0.4, "end": 0.2}, alignment={"start": 0.1})
        assert built.weight_curves()["attention"] == pytest.approx([0.4, 0.3, 0.2])
        assert built.weight_curves()["alignment"] == pytest.approx([0.1] * 3)

    def test_a_phase_of_one_epoch_is_at_its_end(self) -> None:
        built = phases(1, attention={"curve": "cosine", "start": 0.5, "end": 0.1})
        assert built.weights(0)["attention"] == 0.1

    @pytest.mark.parametrize(
        ("curve", "words"),
        [
            ({"curve": "linear", "start": 1}, "end: needed"),
            ({"curve": "cosine", "start": 1}, "end: needed"),
            ({"curve": "exponential", "start": 1, "end": 0}, "end: input should be greater than 0"),
            ({"curve": "linear", "start": -1, "end": 0}, "greater than or equal to 0"),
        ],
    )
    def test_meaningless_curves_are_refused(self, curve: dict[str, Any], words: str) -> None:
        phase = {"epochs": 1, "weights": {"attention": curve}}
        with pytest.raises(ConfigError, match=rf"phases\.a\.weights\.attention.*{words}"):
            validate({"name": "test", "phases": {"a": phase}}, ScheduleConfig)

    @pytest.mark.parametrize(
        ("phase", "words"),
        [
            ({"weights": {"segmentation": 0}}, "every loss weight is 0"),
            (
                {
                    "weights": {
                        "segmentation": 0,
                        "attention": {"curve": "linear", "start": 1, "end": 0},
                    }
                },
                "every loss weight is 0",
            ),
            ({"frozen": ["attention", "head", "backbone"]}, "nothing left to train"),
        ],
    )
    def test_phases_that_learn_nothing_are_refused(self, phase: dict[str, Any], words: str) -> None:
        config = {"name": "test", "phases": {"a": {"epochs": 1, **phase}}}
        with pytest.raises(ValidationError, match=words):
            ScheduleConfig.model_validate(config)
