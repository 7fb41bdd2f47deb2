"""What counts as broken, and what as a constant of a network."""

from __future__ import annotations

import math

import pytest
import torch

from attnseg.common.finite import all_finite, broken_state, broken_tensors, some

GOOD = torch.ones(3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_number_anywhere_is_found_by_name(value: float) -> None:
    bad = torch.tensor([1.0, value])
    assert not all_finite(GOOD, bad)
    tree = {"a": GOOD, "b": [GOOD, {"c": bad}], "n": torch.tensor([1]), "text": "nan", "none": None}
    assert broken_tensors(tree) == ["b.1.c"]
    assert broken_tensors({"scale": torch.tensor(value)}) == ["scale"]
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states"):
        assert broken_state({key: {"w": bad}}) == [f"{key}.w"]
    assert broken_state({"callbacks": {"best": bad}}) == [], "a best value may not be known yet"


def test_a_mask_of_attention_is_no_divergence() -> None:
    mask = torch.tensor([[0.0, -math.inf], [0.0, 0.0]])
    assert broken_tensors({"mask": mask, "empty": torch.empty(0), "w": GOOD}) == []
    assert broken_tensors({"mask": mask, "w": GOOD * math.nan}) == ["w"]


def test_names_are_told_shortly() -> None:
    assert some(["a"]) == "a"
    assert some(["a", "b", "c"]) == "a and 2 more"


def test_what_an_adaptive_schedule_has_not_measured_yet_is_not_broken() -> None:
    """DWA's and GradNorm's buffers are NaN until then; their weights never are."""
    unknown = torch.full((3,), torch.nan)
    state = {f"adaptive.{name}": unknown for name in ("last", "last_but_one", "initial")}
    assert broken_state({"state_dict": state, "current_model_state": state}) == []
    broken = {"state_dict": {"adaptive.log_weights": unknown}}
    assert broken_state(broken) == ["state_dict.adaptive.log_weights"]
