"""Nothing secret is written: a run folder with all that is in it is searched for a mark."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from attnseg.common.errors import FAILED, ConfigError
from attnseg.config import TrainConfig, validate
from attnseg.config.compose import compose_checked
from attnseg.config.environment import from_environment
from attnseg.runs.archive import KEY
from attnseg.runs.checkpoints import load_checkpoints
from attnseg.runs.folder import RunFolder
from attnseg.runs.frozen import freeze, thaw
from attnseg.runs.identity import run_identity
from attnseg.runs.recorded import frozen, recorded, thawed
from attnseg.training import fit as fit_module
from attnseg.training.fit import fit
from tests.conftest import TINY, configure
from tests.sweeps.helpers import REPOSITORY, record, sweep
from tests.sweeps.test_search import SEARCH, fake
from tests.training.loggers.wandb_file import records

MARK = "s3cr3t-mark"
URL = f"postgresql://user:{MARK}@host/db"

__all__ = ["fake"]


def found(root: Path, mark: str = MARK) -> list[str]:
    """The files that hold the mark, members of archives and records of W&B included."""
    places = []
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        contents = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                contents += [archive.read(name) for name in archive.namelist()]
        if path.suffix == ".wandb":
            contents += [each.SerializeToString() for each in records(path)]
        if any(mark.encode() in content for content in contents) or mark in path.name:
            places.append(str(path.relative_to(root)))
    return places


def test_a_run_folder_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command itself, so that what loggers read of the process counts too."""
    monkeypatch.setenv("SECRET_URI", f"https://user:{MARK}-1@host/x")
    monkeypatch.setenv("SECRET_CACHE", str(tmp_path / f"{MARK}-2" / "cache"))
    monkeypatch.setenv("SECRET_WORD", f"{MARK}-3")
    monkeypatch.setenv("SOME_API_KEY", f"{MARK}-4")
    words = [
        *TINY,
        f"run.dir={tmp_path / 'run'}",
        "logger=[wandb,tensorboard]",
        "launcher.options.b=${oc.env:SECRET_WORD}",
        "logger.tracking_uri=${oc.env:SECRET_URI}",
        "data.cache_dir=${oc.env:SECRET_CACHE}",
        f"launcher.options.where=https://{MARK}-5@host/x?token={MARK}-6",
        "seed=${oc.env:SEED}",
    ]
    command(*words)
    assert found(tmp_path / "run") == []
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["seed"] == 7  # it defines the run
    assert config["launcher"]["options"]["b"] == "${oc.env:SECRET_WORD}"
    assert config["data"]["cache_dir"] == "${oc.env:SECRET_CACHE}"
    assert config["launcher"]["options"]["where"] == "https://***@host/x?token=***"
    stored = torch.load(RunFolder(tmp_path / "run").best, weights_only=True)
    assert stored[KEY]["config"] == config
    typed = RunFolder(tmp_path / "run").read_status()["command"]
    assert "launcher.options.b=${oc.env:SECRET_WORD}" in typed
    assert "https://***@host/x" in typed
    for name in ("SECRET_URI", "SECRET_CACHE", "SECRET_WORD"):
        monkeypatch.delenv(name)
    (member,) = load_checkpoints(str(tmp_path / "run"))  # nothing of it needs the variables
    assert validate(config, TrainConfig) == member.config


def command(*words: str) -> None:
    """`attnseg train` in a process of its own, which tells no secret either."""
    done = subprocess.run(
        [sys.executable, "-m", "attnseg.cli", "train", *words],
        env=os.environ | {"SEED": "7", "WANDB_MODE": "offline"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert MARK not in done.stdout + done.stderr


@pytest.mark.full
@pytest.mark.parametrize(
    "words",
    [
        ("trainer=ddp_cpu", "trainer.devices=2"),
        ("-m", "seed=1,2", "launcher=joblib", "launcher.n_jobs=1"),
    ],
)
def test_the_processes_of_a_run_get_what_is_not_written(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_DATABASE", f"sqlite:///{tmp_path}/a.db?password={MARK}-1")
    own = (f"run.root={tmp_path}/runs", "logger=[wandb,mlflow]", "logger.group=${oc.env:SEED}")
    uri = f"logger.tracking_uri=sqlite:///{tmp_path}/b.db?password={MARK}-2"
    for where in (uri, "logger.tracking_uri=${oc.env:SECRET_DATABASE}"):
        command(*TINY, *own, where, *words, "resume=none")
        assert found(tmp_path) == []  # MLflow's databases, too
    assert (tmp_path / "a.db").is_file() and (tmp_path / "b.db").is_file()


def test_a_failing_run_leaves_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*unused: Any) -> None:
        raise RuntimeError(f"cannot reach {URL} (password={MARK})")

    config = configure(tmp_path / "run", f"logger.tracking_uri={URL}")
    monkeypatch.setattr(fit_module, "_fit", fail)
    with pytest.raises(RuntimeError):
        fit(config)
    assert (tmp_path / "run" / "traceback.txt").read_text().count("***") >= 2
    assert found(tmp_path) == []


def test_the_jobs_of_a_sweep_get_what_is_not_written(
    tmp_path: Path, fake: list[TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_URI", f"file:///{MARK}")
    uris = f"{URL},https://{MARK}@other/x,'${{oc.env:SECRET_URI}}'"
    words = (f"logger.tracking_uri={uris}", "seed=1,13", "logger.project=a${b")
    assert sweep(tmp_path, *words) == FAILED  # seed 13 does
    assert {config.logger.tracking_uri for config in fake} == {URL}  # all three are one run
    assert {config.logger.project for config in fake} == {"a${b"}
    assert found(tmp_path) == []
    assert "***" in record(tmp_path)["command"]


def test_a_search_finds_its_storage_and_writes_no_password(
    tmp_path: Path, fake: list[TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/study.db?password={MARK}"
    monkeypatch.setenv("STUDY", url)
    for storage in (url, "${oc.env:STUDY}"):
        assert (
            sweep(tmp_path / "runs", *SEARCH, "sweep.n_trials=2", f"sweep.storage={storage}") == 0
        )
    assert len(fake) == 2  # the second found the first's
    assert {config.sweep.storage for config in fake} == {url}  # type: ignore[union-attr]
    assert found(tmp_path) == []


def test_a_frozen_run_is_read_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE", f"https://{MARK}@host")
    monkeypatch.setenv("WORKERS", "1")
    words = [
        "logger.tracking_uri=${oc.env:HERE}/x",
        "logger.group=${logger.tracking_uri}",
        "data.num_workers=${oc.env:WORKERS}",
        f"launcher.options.a={URL}",
        "logger.project=\\${run.dir}",
        "logger.entity=a${b",
        "logger.tags=[a,${oc.env:WORKERS}]",
    ]
    config = configure(tmp_path / "run", *words)
    assert config.logger.group == f"https://{MARK}@host/x"
    path = tmp_path / "launch.yaml"
    granted = freeze(config, path)
    assert found(tmp_path) == []
    text = path.read_text()
    assert "${oc.env:HERE}/x" in text and "${logger.tracking_uri}" in text
    again = thaw(path, *granted)
    assert again == config.model_copy(update={})
    assert recorded(again) == recorded(config)
    assert run_identity(again) == run_identity(validate(recorded(config), TrainConfig))
    monkeypatch.delenv("HERE")
    with pytest.raises(ConfigError, match="HERE"):
        thaw(path, *granted)


def test_a_run_without_secrets_is_written_as_it_is(tmp_path: Path) -> None:
    config = configure(tmp_path / "run")
    plain = config.model_dump(mode="json")
    assert recorded(config) == frozen(config) == plain
    assert thawed(plain) == config


def test_a_new_password_is_no_new_run(tmp_path: Path) -> None:
    def named(password: str) -> TrainConfig:
        url = f"https://u:{password}@host/weights.pt"
        words = [f"run.dir={tmp_path}", "data.split.kind=fixed", f"data.split.file={url}"]
        return compose_checked("train", words, TrainConfig)

    assert run_identity(named("one")) == run_identity(named("other"))
    assert run_identity(validate(recorded(named("one")), TrainConfig)) == run_identity(named("x"))


def test_a_record_is_read_where_its_variables_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = compose_checked("train", TINY, TrainConfig).model_dump(mode="json")
    plain["data"]["num_workers"] = "${oc.decode:${oc.env:WORKERS}}"
    plain["trainer"]["devices"] = "${oc.env:DEVICES,1}"
    plain["data"]["cache_dir"] = "${oc.env:NOT_THERE}/x"
    read = validate(plain, TrainConfig)
    assert read.data.num_workers == 0
    assert read.data.cache_dir == "${oc.env:NOT_THERE}/x"
    monkeypatch.setenv("NOT_THERE", "/scratch")
    here = validate(from_environment(plain), TrainConfig)
    assert here.data.cache_dir == "/scratch/x"
    assert recorded(here)["data"]["cache_dir"] == "${oc.env:NOT_THERE}/x"


def test_a_missing_driver_is_named() -> None:
    pytest.importorskip("optuna")
    from attnseg.training.trial import open_storage

    with pytest.raises(ConfigError, match=r"pip install 'psycopg\[binary\]'"):
        open_storage(URL)


def test_an_evaluation_looks_for_the_data_in_its_own_environment(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnseg.evaluation.job import _data_of

    (member,) = load_checkpoints(str(finished.path))
    data = member.config.data.model_copy(update={"cache_dir": "${oc.env:SCRATCH_X}/cache"})
    stored = replace(member, config=member.config.model_copy(update={"data": data}))
    monkeypatch.setenv("SCRATCH_X", "/scratch")
    assert _data_of(stored)["cache_dir"] == "/scratch/cache"
    monkeypatch.delenv("SCRATCH_X")
    assert _data_of(stored)["cache_dir"] is None
