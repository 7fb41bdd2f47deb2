"""Names of any kind, in every key that takes text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from attnseg.common.errors import ConfigError
from attnseg.config import (
    AnalyzeConfig,
    CompareConfig,
    DataBuildConfig,
    DataCommandConfig,
    DataMaskConfig,
    DrrConfig,
    EvaluateConfig,
    ExportConfig,
    PredictConfig,
    RunsListConfig,
    RunsPruneConfig,
    Section,
    SyncConfig,
    TrainConfig,
    validate,
)
from attnseg.config.compose import compose, compose_checked
from attnseg.config.grammar import assignment, literal, natural, quoted, words_and_overrides

NAMES = (
    "plain",
    "é",
    "患者",
    "a b",
    " a ",
    "#1",
    "a # b",
    "run (1)",
    "f(x)",
    "choice(a,b)",
    "[x]",
    "a[1]",
    "[",
    "]",
    "{}",
    "{a: 1}",
    "it's",
    'a "b"',
    "'",
    '"',
    "a'b\"c",
    "R&D",
    "go!",
    "a;b",
    "~a",
    "a~",
    "-a",
    "--a",
    "lr=1",
    "=",
    "attention=drr,seed=1-abc",
    "a,b",
    ",",
    "a:b",
    "$HOME",
    "$",
    "a${b}",
    "${",
    "a\\",
    "a\\b",
    "\\'",
    "100%",
    "1",
    "007",
    "1e3",
    "true",
    "nan",
    "a@b",
    "a*b?",
    "a|b",
    "`a`",
    "<a>",
    "^a",
    "a\tb",
)
KEYS: tuple[tuple[str, type[Section], str, tuple[str, ...]], ...] = (
    *(
        ("train", TrainConfig, key, ())
        for key in ("run.dir", "run.root", "resume", "fork", "warmstart", "data.cache_dir")
    ),
    ("train", TrainConfig, "data.split.file", ()),
    ("train", TrainConfig, "data.root", ("data=manifest",)),
    ("train", TrainConfig, "data.scans_csv", ("data=lidc_drr",)),
    ("train", TrainConfig, "data.table", ("data=jsrt",)),
    ("train", TrainConfig, "model.encoder.weights", ()),
    ("train", TrainConfig, "logger.project", ()),
    ("train", TrainConfig, "run.name", ()),
    ("evaluate", EvaluateConfig, "checkpoint", ()),
    ("evaluate", EvaluateConfig, "output_dir", ("checkpoint=x",)),
    ("evaluate", EvaluateConfig, "data.root", ("checkpoint=x", "data=manifest")),
    ("analyze", AnalyzeConfig, "checkpoint", ()),
    ("predict", PredictConfig, "checkpoint", ("images=a", "out=b")),
    ("predict", PredictConfig, "images", ("checkpoint=a", "out=b")),
    ("predict", PredictConfig, "drr", ("checkpoint=a", "images=a", "out=b")),
    ("predict", PredictConfig, "out", ("checkpoint=a", "images=a")),
    ("export", ExportConfig, "checkpoint", ()),
    ("export", ExportConfig, "output", ("checkpoint=a",)),
    ("drr", DrrConfig, "ct", ("out=a",)),
    ("drr", DrrConfig, "mask", ("ct=a", "out=a")),
    ("drr", DrrConfig, "out", ("ct=a",)),
    ("compare", CompareConfig, "output_dir", ()),
    ("compare", CompareConfig, "baseline", ()),
    ("runs_list", RunsListConfig, "root", ()),
    ("runs_prune", RunsPruneConfig, "root", ()),
    ("sync", SyncConfig, "root", ()),
    ("data_command", DataCommandConfig, "output_dir", ()),
    ("data_command", DataCommandConfig, "data.root", ("data=manifest",)),
    ("data_build", DataBuildConfig, "out", ("data=manifest",)),
    ("data_mask", DataMaskConfig, "annotations", ("ct=a", "out=b")),
    ("data_mask", DataMaskConfig, "out", ("ct=a", "annotations=b")),
)


def at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


@pytest.mark.parametrize(
    ("command", "schema", "key", "needed"), KEYS, ids=[f"{c}-{k}" for c, _, k, _ in KEYS]
)
def test_a_key_that_takes_text_takes_it_as_it_is(
    command: str, schema: type[Section], key: str, needed: tuple[str, ...]
) -> None:
    odd = "runs/患者 é #[1]({x}) 'a' \"b\" & ! ~ ; lr=1,s=2 $H \\ 100%"
    assert at(compose(command, [*needed, f"{key}={odd}"], schema), key) == odd


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("schema", "key"), [(TrainConfig, "run.dir"), (PredictConfig, "images")])
def test_any_name_is_taken_as_it_is(schema: type[Section], key: str, name: str) -> None:
    for value in (name, f"runs/{name}", f"{name}/x"):
        if (value in ("[x]", "[") and key == "images") or "${b}" in value:
            continue  # a list; an interpolation
        (word,) = natural([f"{key}={value}"], schema)
        assert read_back(word) == value
        assert natural([word], schema) == [word]  # what is quoted stays as it is


@pytest.mark.parametrize("name", NAMES)
def test_quoting_is_read_back(name: str) -> None:
    for value in (name, [name, "x", name], [None, True, 1, 0.5, name]):
        assert read_back(assignment("key", value)) == value


def read_back(word: str) -> Any:
    """What Hydra and OmegaConf make of a word's value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    value = OverridesParser.create().parse_override(word).value()
    return OmegaConf.to_object(OmegaConf.create({"value": value}))["value"]  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("[a,b]", ["a", "b"]),
        ("[a b, it's,'c,d']", ["a b", "it's", "c,d"]),
        ('["a, b",c]', ["a, b", "c"]),
        ("[é (1),患者#2]", ["é (1)", "患者#2"]),
        ("[1,007]", ["1", "007"]),
        ("'a, b'", "a, b"),
        ('"it\'s"', "it's"),
        ("a, b", "a, b"),
        ("[a", "[a"),
    ],
)
def test_lists_and_hydras_own_quotes_are_understood(typed: str, read: Any) -> None:
    assert compose("evaluate", [f"checkpoint={typed}"], EvaluateConfig)["checkpoint"] == read


def test_a_path_that_is_there_is_meant_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["runs/attention=drr,seed=1-abc", "runs/x", "[x]", "'q'", "${oc.env:HOME}", "null"]
    for name in names:
        Path(name).mkdir(parents=True)
        read = compose("evaluate", [f"checkpoint={name}"], EvaluateConfig)["checkpoint"]
        assert read == name
    words = [f"checkpoint=[{names[0]},runs/x,{names[3]}, {names[0]}]"]
    read = compose("evaluate", words, EvaluateConfig)["checkpoint"]
    assert read == [names[0], "runs/x", names[3], names[0]]


def test_interpolations_and_null_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELSEWHERE", "/data (1)/x")
    words = [
        "run.root=${oc.env:ELSEWHERE}/runs",
        "data.cache_dir=${oc.env:NOTHING,a b}",
        "fork=null",
    ]
    plain = compose("train", words, TrainConfig)
    assert plain["run"]["root"] == "/data (1)/x/runs"
    assert plain["data"]["cache_dir"] == "a b"
    assert plain["fork"] is None


def test_a_value_without_a_reading_is_the_schemas_to_judge() -> None:
    with pytest.raises(ConfigError, match=r"seed: .*\(got '1 \(2'\)"):
        compose_checked("train", ["seed=1 (2"], TrainConfig)
    with pytest.raises(ConfigError, match=r"run\.dirr: no such key; did you mean 'run.dir'"):
        compose_checked("train", ["run.dirr=runs/lr=1"], TrainConfig)


def test_a_sweeps_commas_part_values() -> None:
    def swept(typed: str) -> str:
        (word,) = natural([f"data.root={typed}"], TrainConfig, sweep=True)
        return word.removeprefix("data.root=")

    assert swept("a b,c=1") == f"{quoted('a b')},{quoted('c=1')}"
    assert swept("'a,b',c") == "'a,b','c'"
    assert swept("choice(a,b)") == "choice(a,b)"
    assert swept("runs/lr=1") == "'runs/lr=1'"
    assert natural(["run.root=runs/a,b"], TrainConfig, sweep=True) == ["run.root='runs/a,b'"]


def test_paths_and_overrides_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lr=1").mkdir()
    words = ["lr=1", "runs/lr=2", "runs/é (1)", "split=test", "++seed=1", "data.root=runs/x"]
    assert words_and_overrides(words) == (words[:3], words[3:])


def test_a_schemas_own_value_is_no_text_to_be_quoted() -> None:
    assert natural(["seed=1", "trainer.devices=[0,1]"], TrainConfig) == [
        "seed=1",
        "trainer.devices=[0,1]",
    ]
    assert literal([None, True, 1, 0.5]) == "[null,true,1,0.5]"
    words = ["labels=['ours','the, baseline']"]
    plain = compose("compare", words, CompareConfig)
    assert validate({**plain, "runs": ["a"]}, CompareConfig).labels == ["ours", "the, baseline"]
