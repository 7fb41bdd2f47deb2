"""What differs, told once and shortly."""

from __future__ import annotations

import pytest

from attnseg.reports.compare.differences import (
    defining,
    differing_keys,
    find_key,
    short_names,
    words_of,
)

from .fakes import configured


def keys(*runs: tuple[str, ...]) -> list[str]:
    return differing_keys([defining(configured(run).model_dump(mode="json")) for run in runs])


def test_seed_and_what_does_not_define_a_run_are_no_difference() -> None:
    assert keys(("seed=1",), ("seed=2", "run.name=x", "trainer.num_threads=3")) == []


def test_another_option_is_one_difference_not_all_of_its_keys() -> None:
    assert keys(("schedule=two_phase",), ("schedule=none",)) == ["schedule.name"]
    assert keys(("attention=drr", "schedule=none"), ("attention=anatomical",)) == [
        "attention.name",
        "schedule.name",
    ]


def test_a_number_within_one_option_is_told_beside_the_options() -> None:
    end = "schedule.phases.joint.weights.attention.end"
    assert keys((f"{end}=0.1",), (f"{end}=0.2",), ("schedule=none",)) == ["schedule.name", end]
    assert keys(("optim.lr=1e-3",), ("optim.lr=2e-3",)) == ["optim.lr"]


def test_short_names_are_short_and_unlike() -> None:
    names = short_names(
        [
            "schedule.name",
            "optim.lr",
            "schedule.phases.joint.weights.attention.end",
            "schedule.phases.warm.weights.attention.end",
            "data.batch_size",
        ]
    )
    assert list(names.values()) == [
        "schedule",
        "lr",
        "joint.weights.attention.end",
        "warm.weights.attention.end",
        "batch_size",
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.001, "0.001"), (True, "true"), (None, "null"), ([1, 2.5], "[1,2.5]"), ("a", "a"), (3, "3")],
)
def test_values_in_words(value: object, words: str) -> None:
    assert words_of(value) == words


def test_a_users_word_finds_a_key() -> None:
    known = ["schedule.name", "schedule.phases.joint.epochs", "optim.lr"]
    assert find_key("schedule", known) == ["schedule.name"]
    assert find_key("lr", known) == ["optim.lr"]
    assert find_key("joint.epochs", known) == ["schedule.phases.joint.epochs"]
    assert find_key("nothing", known) == []
