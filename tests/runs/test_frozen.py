"""A frozen configuration is the keyboard's as long as it is what was frozen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from attnseg.common.errors import ConfigError
from attnseg.runs.frozen import freeze, thaw
from attnseg.sweeps.worker import JobRunner
from attnseg.training import launch
from tests.conftest import configure


def test_it_comes_back_with_the_commands_trust_and_is_refused_once_changed(tmp_path: Path) -> None:
    config = configure(tmp_path, "trust=[mylab]", "seed=3")
    path = tmp_path / "launch.yaml"
    words = freeze(config, path)
    assert "mylab" not in path.read_text() and thaw(path, *words) == config
    assert words[1:] == ["mylab"]
    path.write_text(path.read_text().replace("seed: 3", "seed: 4"))
    with pytest.raises(ConfigError, match="is not what the launcher has written"):
        thaw(path, *words)


def test_a_worker_trains_from_nothing_that_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = []
    monkeypatch.setattr(launch, "_fit", lambda config: trained.append(config) or 0)
    path = tmp_path / "launch.yaml"
    words = freeze(configure(tmp_path), path)
    assert launch.worker(path, *words) == 0 and len(trained) == 1
    path.write_text(path.read_text() + "\n# more\n")
    assert launch.worker(path, *words) == 2 and len(trained) == 1
    assert "launch.yaml: is not what" in capsys.readouterr().err


def test_a_sweeps_job_is_not_run_from_a_file_that_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []
    monkeypatch.setattr(JobRunner, "_run", lambda self, config: ran.append(config) or 0)
    paths = [tmp_path / "jobs" / f"{index}.yaml" for index in (0, 1)]
    grants = {k: freeze(configure(tmp_path, "trust=[lab]"), p) for k, p in enumerate(paths)}
    runner = JobRunner(tmp_path, "now", grants, log=False, fail_fast=False, ends_with_sweep=False)
    paths[1].write_text(paths[1].read_text() + "\nmodel: {}\n")
    assert [runner(SimpleNamespace(index=index)) for index in (0, 1)] == [0, 2]
    assert [config.trust for config in ran] == [["lab"]]
    assert "1.yaml: is not what the launcher has written" in capsys.readouterr().err
    assert '"exit_code": 2' in paths[1].with_suffix(".json").read_text()
