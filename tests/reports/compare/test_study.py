"""Grouping by seed, states as they are, names and baselines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from attnseg.common.errors import ConfigError
from attnseg.reports.compare.study import ComparedRun, build_study
from attnseg.runs.records import RunRecord, read_record

from .fakes import compared, fake_run, grid


def test_runs_that_differ_by_seed_only_are_one_group(tmp_path: Path) -> None:
    grid(tmp_path, {"attention": ["drr", "anatomical"], "schedule": ["none", "two_phase"]})
    study = build_study(compared(sorted(tmp_path.iterdir())))
    assert [len(group.runs) for group in study.groups] == [2, 2, 2, 2]
    assert list(study.keys.values()) == ["attention", "schedule"]
    assert study.groups[0].label == "attention=anatomical, schedule=none"
    middle, spread = study.groups[0].statistic("dice_positive")
    ones = [run.metric("dice_positive") for run in study.groups[0].runs]
    assert middle == pytest.approx(sum(ones) / 2)
    assert spread == pytest.approx(abs(ones[0] - ones[1]) / 2**0.5)


def test_order_of_runs_changes_only_the_order(tmp_path: Path) -> None:
    grid(tmp_path, {"attention": ["drr", "anatomical"], "schedule": ["none", "two_phase"]})
    paths = sorted(tmp_path.iterdir())
    one, other = build_study(compared(paths)), build_study(compared(paths[::-1]))

    def numbers(study):
        return {group.label: group.statistic("dice_positive") for group in study.groups}

    ours, theirs = numbers(one), numbers(other)
    assert ours.keys() == theirs.keys()
    for label, pair in ours.items():
        assert pair == pytest.approx(theirs[label])


@pytest.mark.parametrize("state", ["failed", "interrupted", "running"])
def test_unfinished_runs_are_in_their_group_and_not_in_its_mean(tmp_path: Path, state: str) -> None:
    fake_run(tmp_path / "a", "seed=1", quality=0.8)
    fake_run(tmp_path / "b", "seed=2", quality=0.2, state=state, reason="why not", epochs=2)
    study = build_study(compared([tmp_path / "a", tmp_path / "b"]))
    (group,) = study.groups
    assert len(group.runs) == 2
    assert len(group.counted) == 1
    shown = {"running": "crashed"}.get(state, state)
    assert group.runs[1].left_out.startswith(shown)
    assert group.statistic("dice_positive")[0] == group.runs[0].metric("dice_positive")


def test_a_run_cut_short_by_max_epochs_is_not_counted(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", epochs=2)
    (run,) = compared([tmp_path / "a"])
    assert run.record.state == "partial"
    assert "2 of 4 epochs" in run.left_out
    fake_run(tmp_path / "b", epochs=2, reason="early stopping")
    assert compared([tmp_path / "b"])[0].left_out == ""


def test_the_same_run_twice_is_counted_once(tmp_path: Path) -> None:
    fake_run(tmp_path / "a")
    fake_run(tmp_path / "b")
    runs = compared([tmp_path / "a", tmp_path / "b"])
    assert runs[0].left_out == ""
    assert str(tmp_path / "a") in runs[1].left_out


def test_a_sweeps_job_without_a_folder_joins_the_group_it_would_be_in(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "schedule=none")
    fake_run(tmp_path / "b", "schedule=two_phase")
    runs = compared([tmp_path / "a", tmp_path / "b"])
    varied = {"schedule": "none", "seed": 7}
    job = replace(runs[0].record, path=tmp_path / "c", config={}, state="failed", varied=varied)
    study = build_study([*runs, replace(runs[0], record=job, left_out="failed")])
    assert [len(group.runs) for group in study.groups] == [2, 1]


def test_validation_figures_without_an_evaluation_are_the_best_epochs(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "a", evaluated=None)
    status = json.loads((run / "status.json").read_text())
    status["best"]["epoch"] = 2
    (run / "status.json").write_text(json.dumps(status))
    (compared_run,) = compared([run], "val")
    second = read_record(run).rows[1]
    assert compared_run.metric("dice_positive") == float(second["val/dice_positive"])
    assert compared([run], "test")[0].summary == {}


def test_groups_are_found_by_name_id_and_keys(tmp_path: Path) -> None:
    grid(tmp_path, {"attention": ["drr", "anatomical"], "schedule": ["none", "two_phase"]})
    study = build_study(compared(sorted(tmp_path.iterdir())))
    record = study.groups[2].runs[0].record

    def labels(word: str) -> list[str]:
        return [group.label for group in study.matching(word)]

    for word in (record.name, record.path.name, str(record.path), record.id, record.id[:5]):
        assert labels(word) == [study.groups[2].label], word
    assert len(labels("schedule=none")) == 2
    assert labels("schedule=none,attention=drr") == ["attention=drr, schedule=none"]
    assert labels("optim.lr=0.001") == [group.label for group in study.groups]
    assert labels("optim.lr=1e-3") == labels("lr=0.001")
    assert labels("schedule=nothing") == []
    assert labels(record.id[:3]) == [], "three digits of an id are not enough"


def test_labels_replace_what_is_made_of_the_differences(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", "schedule=none")
    fake_run(tmp_path / "b", "schedule=two_phase")
    study = build_study(compared([tmp_path / "a", tmp_path / "b"]), ["the baseline"])
    assert [group.label for group in study.groups] == ["the baseline", "schedule=two_phase"]
    twice = build_study(compared([tmp_path / "a", tmp_path / "b"]), ["one", "one"])
    assert [group.label for group in twice.groups] == ["one (1)", "one (2)"]
    with pytest.raises(ConfigError, match="3 names for 2 configurations"):
        build_study(compared([tmp_path / "a", tmp_path / "b"]), ["x", "y", "z"])


def test_runs_of_other_data_are_no_seeds_of_one_configuration() -> None:
    """Where nobody knows of more than one content, older runs stay with the newer ones."""

    def groups(*digests: str | None) -> int:
        runs = []
        for seed, digest in enumerate(digests):
            record = RunRecord(
                Path(f"r{seed}"), f"r{seed}", config={"seed": seed, "optim": {"lr": 1}}
            )
            config = {**record.config, "data_digest": digest}
            runs.append(ComparedRun(replace(record, config=config), None, "test"))
        return len(build_study(runs).groups)

    assert groups("a" * 32, "a" * 32, None) == 1
    assert groups("a" * 32, "b" * 32, "a" * 32) == 2
