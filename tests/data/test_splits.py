from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnseg.common.errors import ConfigError, DataError
from attnseg.config import SplitConfig
from attnseg.data.splits import SPLIT_NAMES, Splits, make_splits, patient_overlap, training_share
from attnseg.imaging.case import Case


def _cases(*patients: str) -> list[Case]:
    return [Case(f"c{i}", patient) for i, patient in enumerate(patients)]


def _patients(cases: list[Case]) -> set[str]:
    return {case.patient_id for case in cases}


@given(
    st.lists(st.integers(0, 30), min_size=8, max_size=60),
    st.integers(0, 5),
    st.sampled_from([0.0, 0.1, 0.25]),
    st.sampled_from([0.0, 0.2]),
)
def test_random_splits_divide_patients_and_lose_no_case(
    numbers: list[int], seed: int, val: float, test: float
) -> None:
    cases = _cases(*(f"p{number}" for number in numbers))
    n = len(_patients(cases))
    if n < 4:
        return
    splits = make_splits(cases, SplitConfig(seed=seed, val_fraction=val, test_fraction=test))
    groups = [_patients(splits[name]) for name in SPLIT_NAMES]
    assert sum(map(len, groups)) == n
    assert sum(len(splits[name]) for name in SPLIT_NAMES) == len(cases)
    assert len(groups[1]) == (max(1, round(val * n)) if val else 0)
    assert len(groups[2]) == (max(1, round(test * n)) if test else 0)
    assert splits.train == [case for case in cases if case in splits.train]  # source's order


def test_the_split_depends_on_its_seed_and_nothing_else() -> None:
    cases = _cases(*(f"p{i}" for i in range(40)))
    first = make_splits(cases, SplitConfig(seed=3))
    assert _patients(make_splits(cases[::-1], SplitConfig(seed=3)).val) == _patients(first.val)
    assert _patients(make_splits(cases, SplitConfig(seed=4)).val) != _patients(first.val)
    # Known values: a change of the rule would silently mix old runs' patients.
    assert _patients(make_splits(_cases(*"abcdefghij"), SplitConfig(seed=0)).val) == {"f", "h"}


def test_more_patients_do_not_reshuffle_the_others() -> None:
    old = _patients(make_splits(_cases(*(f"p{i}" for i in range(100))), SplitConfig()).val)
    new = _patients(make_splits(_cases(*(f"p{i}" for i in range(105))), SplitConfig()).val)
    assert len(old & new) >= len(old) - 5


@given(st.integers(5, 30), st.integers(2, 5), st.sampled_from([0.0, 0.2]))
def test_folds_validate_every_patient_once(n: int, folds: int, test: float) -> None:
    cases = _cases(*(f"p{i % n}" for i in range(n + 7)))
    config = SplitConfig(kind="kfold", folds=folds, test_fraction=test)
    try:
        parts = [
            make_splits(cases, config.model_copy(update={"fold": fold})) for fold in range(folds)
        ]
    except ConfigError:  # fewer patients than folds once the test patients are out
        assert n - round(test * n) < folds
        return
    seen = [patient for part in parts for patient in _patients(part.val)]
    assert len(seen) == len(set(seen))
    assert set(seen) | _patients(parts[0].test) == _patients(cases)
    assert len({frozenset(_patients(part.test)) for part in parts}) == 1
    sizes = [len(_patients(part.val)) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 40), st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.integers(0, 3))
def test_a_smaller_training_share_is_part_of_a_larger_one(
    n: int, one: float, other: float, seed: int
) -> None:
    cases = _cases(*(f"p{i % n}" for i in range(n + 7)))
    low, high = (
        training_share(cases, SplitConfig(seed=seed, train_fraction=fraction))
        for fraction in sorted((one, other))
    )
    assert _patients(low) <= _patients(high)
    assert len(_patients(low)) == max(1, round(min(one, other) * n))
    assert high == [case for case in cases if case.patient_id in _patients(high)]
    assert training_share(cases, SplitConfig(seed=seed)) == cases


def test_too_few_patients_for_the_folds() -> None:
    with pytest.raises(ConfigError, match=r"data.split.folds=5.* only 2 patients"):
        make_splits(_cases("a", "b"), SplitConfig(kind="kfold"))


def _file(folder: Path, text: str) -> SplitConfig:
    (folder / "splits.csv").write_text(text)
    return SplitConfig(kind="fixed", file=str(folder / "splits.csv"))


def test_a_file_fixes_the_split(tmp_path: Path) -> None:
    config = _file(tmp_path, "patient,split\na,train\nb, val\nc,test\nelse,val\n")
    splits = make_splits(_cases("a", "b", "c", "a"), config)
    assert [case.case_id for case in splits.train] == ["c0", "c3"]
    assert _patients(splits.val) == {"b"}
    assert _patients(splits.test) == {"c"}


def test_everything_wrong_with_a_split_file_is_listed_at_once(tmp_path: Path) -> None:
    config = _file(tmp_path, "patient,split\na,train\na,val\nb,validation\n")
    with pytest.raises(DataError) as caught:
        make_splits(_cases("a", "b", "c"), config)
    assert caught.value.problems == [
        "patient a: in train and val; give the patient one split",
        "patient b: split is 'validation'; use train, val or test",
        "patient c: has cases but no split; add a row",
    ]


def test_the_data_sets_own_column_fixes_the_split() -> None:
    cases = [Case("1", "a", split="train"), Case("2", "b", split="val")]
    splits = make_splits(cases, SplitConfig(kind="fixed"))
    assert (_patients(splits.train), _patients(splits.val)) == ({"a"}, {"b"})
    leak = [*cases, Case("3", "a", split="val")]
    with pytest.raises(DataError, match="patient a: in train and val"):
        make_splits(leak, SplitConfig(kind="fixed"))


def test_a_fixed_split_needs_a_file_or_a_column(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.split.file="):
        make_splits(_cases("a"), SplitConfig(kind="fixed"))
    with pytest.raises(ConfigError, match="no such file"):
        make_splits(_cases("a"), SplitConfig(kind="fixed", file=str(tmp_path / "no.csv")))
    with pytest.raises(ConfigError, match="no column named split"):
        make_splits(_cases("a"), _file(tmp_path, "patient,fold\na,1\n"))


def test_an_empty_training_split_is_an_error() -> None:
    with pytest.raises(DataError, match="training split is empty"):
        make_splits(_cases("a"), SplitConfig(val_fraction=0.5))
    with pytest.raises(DataError, match="training split is empty"):
        make_splits([], SplitConfig())


def test_overlap_names_patient_and_splits() -> None:
    splits = Splits(train=_cases("a", "b"), val=_cases("b"), test=_cases("b", "c"))
    assert patient_overlap(splits) == [
        "patient b: in train and val and test; give the patient one split"
    ]


def test_a_split_file_that_spells_a_patient_otherwise_is_told(tmp_path: Path) -> None:
    cases = [Case(f"c{i}", patient) for i, patient in enumerate(["PAT1", "b", "c\u200b"])]
    path = tmp_path / "s.csv"
    path.write_text("patient,split\npat01,train\nb,train\n B,val\nc\u200b,train\nC,train\n")
    with pytest.raises(DataError) as caught:
        make_splits(cases, SplitConfig(kind="fixed", file=str(path)))
    assert caught.value.problems == [
        "patient 'PAT1': is 'pat01' there; write it the same",
        "patients 'b' and 'B': have different splits, and their ids differ by spelling alone; "
        "take one row out",
    ]
