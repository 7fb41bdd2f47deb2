"""The patients that a model was ever trained on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attnseg.runs.patients import KEY, TrainedPatients

IDS = ["PAT-1", "pat-1", "001", "患者 7", "name \udce9 no UTF-8"]


@pytest.mark.parametrize("keep_ids", [False, True])
def test_a_set_survives_its_record_and_shows_ids_only_if_asked(keep_ids: bool) -> None:
    patients = TrainedPatients.of(IDS, keep_ids=keep_ids)
    text = json.dumps(patients.record())
    assert ("PAT-1" in text) == keep_ids
    read = TrainedPatients.from_record({KEY: json.loads(text)})
    assert read == patients
    for one in (patients, read):
        assert all(patient in one for patient in IDS)
        assert not any(other in one for other in ("PAT-2", "Pat-1", "1", "", "PAT-1 "))


def test_every_run_has_a_salt_of_its_own() -> None:
    one, other = (TrainedPatients.of(IDS).record()[0] for _ in range(2))
    assert one["salt"] != other["salt"]
    assert one["hashes"] != other["hashes"]


def test_more_patients_of_a_run_keep_its_salt_and_parents_keep_theirs() -> None:
    parent = TrainedPatients.of(["a", "b"])
    child = TrainedPatients.of(["b", "c"]).union(parent)
    later = child.plus(["d"])
    assert [g["salt"] for g in later.record()] == [g["salt"] for g in child.record()]
    assert later.record()[1] == parent.record()[0]
    assert all(patient in later for patient in "abcd")
    assert "e" not in later
    assert "a" not in TrainedPatients.of(["b", "c"])
    twice = child.union(child, parent)
    assert twice == child


def test_plain_ids_can_be_taken_out_and_stay_in_the_set() -> None:
    mixed = TrainedPatients.of(IDS, keep_ids=True).union(TrainedPatients.of(["x"]))
    hidden = mixed.hashed()
    assert "PAT-1" not in json.dumps(hidden.record())
    assert all(patient in hidden for patient in [*IDS, "x"])
    assert "PAT-2" not in hidden
    assert hidden.hashed() is hidden


def test_ids_that_are_kept_begin_a_group_of_their_own() -> None:
    both = TrainedPatients.of(["a"]).plus(["b"], keep_ids=True)
    assert [sorted(group) for group in both.record()] == [["ids"], ["hashes", "salt"]]
    assert "a" in both
    assert "b" in both


def test_older_records_are_read_and_none_is_no_patient() -> None:
    old = TrainedPatients.from_record({"data": {"train_patients": ["a", "b"]}})
    assert "a" in old
    assert '"a"' not in json.dumps(old.record())
    for empty in ({}, {"data": {}}, {KEY: []}, {"data": {"train_patients": []}}):
        nobody = TrainedPatients.from_record(empty)
        assert not nobody
        assert "a" not in nobody
        assert nobody.record() == []


@pytest.mark.parametrize(
    "broken",
    [
        7,
        [7],
        [{"salt": "00", "hashes": "AAA="}],
        [{"salt": "", "hashes": "AAAAAAAAAAA="}],
        [{"salt": "zz", "hashes": "AAAAAAAAAAA="}],
        [{"salt": "00"}],
        [{"salt": "00", "hashes": "not base64 !"}],
    ],
)
def test_a_broken_record_is_told(broken: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        TrainedPatients.from_record({KEY: broken})


def test_a_hundred_thousand_patients_are_a_record_of_a_megabyte() -> None:
    patients = TrainedPatients.of(f"patient-{index:06d}" for index in range(100_000))
    assert len(json.dumps(patients.record())) < 1_100_000
    assert "patient-099999" in patients
    assert "patient-100000" not in patients
