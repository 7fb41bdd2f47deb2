"""attnseg export: weights that cannot execute code, usable wherever a checkpoint is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn import functional as F

from attnseg.build import build_model
from attnseg.cli import main
from attnseg.common.errors import ConfigError
from attnseg.config import TrainConfig
from attnseg.config.compose import compose_checked
from attnseg.inference.export import graph
from attnseg.inference.export.graph import SUFFIX
from attnseg.inference.predictor import Predictor, trained_model
from attnseg.nn.attention.base import normalised_softmax
from attnseg.nn.output import DualPathwayOutput
from attnseg.runs.checkpoints import (
    LoadedCheckpoint,
    export_safetensors,
    load_checkpoints,
    without_paths,
)
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_identity
from attnseg.runs.patients import TrainedPatients
from tests.conftest import configure
from tests.inference.test_predictor import Pointwise


def test_weights_and_config_come_out_as_they_went_in(finished: RunFolder, tmp_path: Path) -> None:
    output = tmp_path / "nodules.safetensors"
    assert main(["export", f"checkpoint={finished.path}", f"output={output}"]) == 0
    there, back = load_checkpoints(str(finished.path))[0], load_checkpoints(str(output))[0]
    assert back.config == there.config
    assert (back.threshold, back.identity) == (there.threshold, there.identity)
    assert back.weights.keys() == there.weights.keys()
    assert all(torch.equal(back.weights[name], value) for name, value in there.weights.items())
    beside = yaml.safe_load((tmp_path / "nodules.yaml").read_text())
    assert beside == there.config.model_dump(mode="json")


def test_the_default_place_is_in_the_run_folder(
    finished: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", f"checkpoint={finished.path}"]) == 0
    [written] = (finished.path / "export").glob("*.safetensors")
    assert str(written) in capsys.readouterr().out


def test_mistakes_are_one_message(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "graph.pt2").touch()
    for words, message in (
        ([], "checkpoint is not set"),
        ([f"checkpoint={tmp_path / 'graph.pt2'}"], "a graph, for use without attnseg"),
        (["checkpoint=/none"], "checkpoint=/none: no such file or folder"),
        ([f"checkpoint={finished.path}", "output=w.pt"], "ends in .safetensors"),
        ([f"checkpoint={finished.path}", "outputs=x"], "did you mean 'output'"),
    ):
        assert main(["export", *words]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.timeout(900)
@pytest.mark.parametrize("form", ["exported_program", "onnx"])
def test_a_graph_agrees_with_the_model_and_says_how_to_use_it(
    form: str, finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"nodules{SUFFIX[form]}"
    assert (
        main(["export", f"checkpoint={finished.path}", f"format={form}", f"output={output}"]) == 0
    )
    card = json.loads((tmp_path / f"{output.name}.json").read_text())
    assert card["preprocessing"]["size_px"] == 64
    assert card["classes"] == ["background", "nodule"]
    checkpoint = load_checkpoints(str(finished.path))[0]
    assert card["threshold"] == checkpoint.threshold
    assert set(card["agreement"]["max_abs_difference"]) == {"probability", "attention"}
    assert max(card["agreement"]["max_abs_difference"].values()) <= 1e-4
    assert "largest difference from the model: probability" in capsys.readouterr().out
    model = trained_model(checkpoint).eval()
    run = load_graph(output)
    for shape in ((1, 1, 64, 64), (5, 1, 64, 64), (2, 1, 96, 64)):
        xray, drr = torch.randn(shape), torch.randn(shape)
        with torch.inference_mode():
            expected = model(xray, drr)
        probability, attention = run(xray, drr)
        torch.testing.assert_close(probability, expected.mask_logits.sigmoid(), atol=1e-4, rtol=0)
        torch.testing.assert_close(attention, expected.attention, atol=1e-4, rtol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, f"{output.name}.json"]


def load_graph(path: Path) -> Any:
    """The exported file run by its own library, without attnseg's loader."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = ["probability", "attention"]

    def run(xray: torch.Tensor, drr: torch.Tensor) -> list[torch.Tensor]:
        made = session.run(names, {"xray": xray.numpy(), "drr": drr.numpy()})
        return [torch.from_numpy(one) for one in made]

    return run


@pytest.mark.parametrize("form", ["exported_program", "onnx"])
def test_maps_that_differ_are_refused_and_nothing_is_written(
    form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = graph._LOADERS[form]

    def skewed(path: Path) -> Any:
        run = whole(path)
        return lambda xray, drr: [one + 0.01 for one in run(xray, drr)]

    monkeypatch.setitem(graph._LOADERS, form, skewed)
    predictor, output = Predictor([Pointwise()]), tmp_path / f"a{SUFFIX[form]}"
    with pytest.raises(ConfigError, match=r"not written.*probability by 0.01"):
        graph.export_graph(predictor, output, form, size=64)
    assert not list(tmp_path.iterdir())
    made = graph.export_graph(predictor, output, form, size=64, tolerance=0.02)
    assert made.max_abs_difference["attention"] == pytest.approx(0.01, abs=1e-4)


@pytest.mark.timeout(900)  # tracing is slow on a busy machine
@pytest.mark.parametrize("attention", ["none", "drr", "supervised"])
def test_every_attention_can_be_exported(attention: str, tmp_path: Path) -> None:
    config = configure(tmp_path, f"attention={attention}")
    model = build_model(config.model, config.attention)
    agreement = graph.export_graph(
        Predictor([model]), tmp_path / "a.pt2", "exported_program", size=64
    )
    assert agreement.dynamic_size
    assert max(agreement.max_abs_difference.values()) < 1e-5


@pytest.mark.timeout(900)
def test_sure_models_are_exported_as_they_are(tmp_path: Path) -> None:
    """A model that has learnt much gives log-odds that a naive log(sigmoid) turns into -inf."""
    config = configure(tmp_path, "attention=anatomical")
    torch.manual_seed(0)
    model = build_model(config.model, config.attention).eval()
    last = model.attention.trunk.refine[-1]  # type: ignore[union-attr,index]
    with torch.no_grad():
        last.weight.normal_(0, 30)
        last.bias.fill_(-500)  # every pixel is surely none
    path = tmp_path / "a.onnx"
    graph.export_graph(Predictor([model]), path, "onnx", size=64, dynamic_size="never")
    xray, drr = torch.randn(2, 1, 64, 64), torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        expected = model(xray, drr)
    assert expected.attention_logits.max() < -110  # where a float's sigmoid is 0
    assert expected.attention.std() > 0.01
    _, attention = load_graph(path)(xray, drr)
    torch.testing.assert_close(attention, expected.attention, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("form", "function"),
    [
        ("onnx", F.logsigmoid),
        ("onnx", lambda x: torch.logaddexp(x, -x)),
        ("exported_program", F.logsigmoid),
    ],
)
def test_logarithms_of_exponentials_stay_finite(form: Any, function: Any, tmp_path: Path) -> None:
    class Sure(Pointwise):
        def forward(self, xray: torch.Tensor, drr: torch.Tensor) -> DualPathwayOutput:
            logits = function(-500 - 50 * xray.abs())
            return DualPathwayOutput(logits / 100, drr, normalised_softmax(logits, 100.0))

    graph.export_graph(Predictor([Sure()]), tmp_path / f"a{SUFFIX[form]}", form, size=32)


@pytest.mark.parametrize("form", ["exported_program", "onnx"])
def test_a_model_of_one_size_is_exported_at_it(form: Any, tmp_path: Path) -> None:
    class OneSize(Pointwise):
        def forward(self, xray: torch.Tensor, drr: torch.Tensor) -> DualPathwayOutput:
            return super().forward(xray.reshape(-1, 1, 64, 64), drr)

    predictor = Predictor([OneSize()])
    path = tmp_path / f"a{SUFFIX[form]}"
    assert not graph.export_graph(predictor, path, form, size=64).dynamic_size
    with pytest.raises(ConfigError, match="dynamic_size=never"):
        graph.export_graph(predictor, path, form, size=64, dynamic_size="always")


@pytest.mark.timeout(900)
def test_an_ensemble_is_one_graph_or_one_safetensors(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = f"checkpoint=[{finished.path},{finished.path}]"
    packed = tmp_path / "a.safetensors"
    assert main(["export", both, f"output={packed}", "half=true", "threshold=0.25"]) == 0
    assert [member.threshold for member in load_checkpoints(str(packed))] == [0.25, 0.25]
    assert len(yaml.safe_load(packed.with_suffix(".yaml").read_text())) == 2
    one = tmp_path / "one.safetensors"
    assert main(["export", f"checkpoint={packed}", "member=1", f"output={one}"]) == 0
    assert load_checkpoints(str(one))[0].threshold == 0.25
    capsys.readouterr()
    assert main(["export", f"checkpoint={packed}", "member=2", f"output={one}"]) == 2
    assert "are 0 to 1" in capsys.readouterr().err
    output = tmp_path / "a.pt2"
    words = ["format=exported_program", f"output={output}", "dynamic_size=never"]
    assert main(["export", both, *words]) == 0
    assert len(json.loads((tmp_path / "a.pt2.json").read_text())["run_ids"]) == 2


def identity_but_for_the_split(checkpoint: LoadedCheckpoint) -> str:
    split = checkpoint.config.data.split.model_copy(update={"kind": "random", "file": None})
    data = checkpoint.config.data.model_copy(update={"split": split})
    return run_identity(checkpoint.config.model_copy(update={"data": data, "warmstart": None}))


def test_a_file_for_others_does_not_tell_where_things_lay(
    finished: RunFolder, tmp_path: Path
) -> None:
    there = load_checkpoints(str(finished.path))[0]
    split = there.config.data.split.model_copy(update={"kind": "fixed", "file": "/home/me/s.csv"})
    data = there.config.data.model_copy(update={"cache_dir": "~/cache", "split": split})
    record = {**there.data_record, "source": {"root": "secret/drrs", "n": 3}, "z": ["/home/me/z"]}
    logger = there.config.logger
    logger = logger.model_copy(update={"tags": ["/home/me"], "tracking_uri": "sqlite:////home/me"})
    config = there.config.model_copy(update={"data": data, "warmstart": "w.ckpt", "logger": logger})
    private, shared = tmp_path / "private.safetensors", tmp_path / "shared.safetensors"
    export_safetensors([replace(there, config=config, data_record=record)], private)
    assert main(["export", f"checkpoint={private}", f"output={shared}", "paths=false"]) == 0
    back = load_checkpoints(str(shared))[0]
    for text in (shared.with_suffix(".yaml").read_bytes(), shared.read_bytes()):
        assert b"/home/me" not in text
        assert str(finished.path).encode() not in text
        assert not any(word in text for word in (b'cache"', b"w.ckpt", b"secret", b"sqlite"))
    changed = {"source": {"root": "drrs", "n": 3}, "z": ["z"]}
    assert back.data_record == {**there.data_record, **changed}
    assert back.config.data.split.file == "s.csv"
    assert back.config.run.dir is None
    assert identity_but_for_the_split(back) == identity_but_for_the_split(there)
    assert back.config.model == there.config.model
    assert all(torch.equal(back.weights[name], value) for name, value in there.weights.items())


def test_a_pretrained_encoder_keeps_its_file_as_a_name_and_so_its_architecture() -> None:
    words = ["model=resnet18", "model.encoder.weights=/home/me/r.pth"]
    config = compose_checked("train", words, TrainConfig)
    member = LoadedCheckpoint(Path("x"), config, {}, 0.5, "", {}, None, TrainedPatients())
    encoder = without_paths(member).config.model.encoder  # type: ignore[union-attr]
    assert encoder.weights == "r.pth"


@pytest.mark.parametrize("words", [["model=unet", "attention=none"], ["model=original"]])
def test_every_kind_of_model_can_be_given_to_others(words: list[str]) -> None:
    config = compose_checked("train", words, TrainConfig)
    member = LoadedCheckpoint(Path("x"), config, {}, 0.5, "", {}, None, TrainedPatients())
    assert without_paths(member).config.model == config.model


def test_graphs_tell_their_source_lines(
    finished: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", f"checkpoint={finished.path}", "format=onnx", "paths=false"]) == 2
    assert "paths=false is for format=safetensors" in capsys.readouterr().err


def test_half_precision_is_for_safetensors(
    finished: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", f"checkpoint={finished.path}", "format=onnx", "half=true"]) == 2
    assert "half=true is for format=safetensors" in capsys.readouterr().err


def test_members_of_several_sizes_are_no_graph(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = load_checkpoints(str(finished.path))[0]
    size = one.config.data.size
    data = one.config.data.model_copy(update={"size": 2 * size})
    other = replace(one, config=one.config.model_copy(update={"data": data}))
    packed = tmp_path / "a.safetensors"
    export_safetensors([one, other], packed)
    words = ["format=exported_program", f"output={tmp_path / 'a.pt2'}"]
    assert main(["export", f"checkpoint={packed}", *words]) == 2
    assert f"{2 * size} px" in capsys.readouterr().err
    # To measure is no problem: each sees its own size, on the larger grid.
    assert main(["evaluate", f"checkpoint={packed}", f"output_dir={tmp_path / 'e'}"]) == 0
    assert load_checkpoints(str(packed))[1].config.data.size == 2 * size


def test_the_ending_follows_the_format(
    finished: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"checkpoint={finished.path}", "format=onnx", "output=w.safetensors"]
    assert main(["export", *words]) == 2
    assert "ends in .onnx" in capsys.readouterr().err
