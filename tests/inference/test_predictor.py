"""One pass is the model itself; many are averaged, and their spread is uncertainty."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attnseg.build import build_model
from attnseg.common.errors import ConfigError
from attnseg.config import component
from attnseg.inference.predictor import (
    Maps,
    PassOptions,
    Predictor,
    dropout_on,
    threshold_of,
    views_of,
)
from attnseg.nn.output import DualPathwayOutput, SegmentationModel
from tests.conftest import needs_gpu


class Pointwise(SegmentationModel):
    """Logits are a function of each pixel alone: equivariant to flips, exactly."""

    group_of_child = {}  # noqa: RUF012
    has_attention = True

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, xray: Tensor, drr: Tensor) -> DualPathwayOutput:
        return DualPathwayOutput(self.gain * xray, drr, drr.sigmoid())


def small(dropout: float = 0.3) -> SegmentationModel:
    torch.manual_seed(0)
    encoder = {"channels": [4, 8, 8]}
    config = component(
        "model",
        {
            "name": "dual_pathway",
            "encoder": encoder,
            "drr_encoder": encoder,
            "decoder_channels": 4,
            "dropout": dropout,
        },
    )
    attention = component(
        "attention", {"name": "anatomical", "hidden_channels": 8, "dropout": dropout}
    )
    return build_model(config, attention).eval()


def images(n: int = 2, side: int = 64, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    xray, drr = (torch.randn(n, 1, side, side, generator=generator) for _ in range(2))
    return xray, drr


def run(model: SegmentationModel, keys: list[str] | None = None, **options: object) -> Maps:
    xray, drr = images()
    predictor = Predictor([model], PassOptions(**options)).eval()  # type: ignore[arg-type]
    with torch.inference_mode():
        maps: Maps = predictor(xray, drr, keys or ["a", "b"])
    return maps


def test_a_single_pass_is_the_model_to_the_bit() -> None:
    model = small()
    with torch.inference_mode():
        output = model(*images())
    maps = run(model)
    assert maps.std is None and maps.n_passes == 1
    assert torch.equal(maps.probability, output.mask_logits.sigmoid())
    assert torch.equal(maps.attention, output.attention)


def test_flips_average_both_views_and_undo_them() -> None:
    model = small()
    xray, drr = images()
    with torch.inference_mode():
        plain = model(xray, drr).mask_logits.sigmoid()
        mirrored = model(xray.flip(-1), drr.flip(-1)).mask_logits.sigmoid().flip(-1)
    maps = run(model, tta="flip")
    torch.testing.assert_close(maps.probability, (plain + mirrored) / 2)
    assert maps.std is not None
    torch.testing.assert_close(maps.std, (plain - mirrored).abs() / 2)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), tta=st.sampled_from(["flip", "flip_scale"]))
def test_augmented_prediction_commutes_with_the_flip(seed: int, tta: str) -> None:
    predictor = Predictor([small()], PassOptions(tta=tta)).eval()  # type: ignore[arg-type]
    xray, drr = images(1, 64, seed)
    with torch.inference_mode():
        first = predictor(xray, drr, ["a"])
        second = predictor(xray.flip(-1), drr.flip(-1), ["a"])
    torch.testing.assert_close(first.probability, second.probability.flip(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(first.attention, second.attention.flip(-1), atol=1e-5, rtol=0)


def test_what_is_equivariant_is_sure() -> None:
    maps = run(Pointwise(), tta="flip")
    assert maps.std is not None
    assert maps.std.max() < 1e-6
    assert maps.entropy.min() >= 0 and maps.entropy.max() <= 1


@pytest.mark.parametrize(("side", "strides"), [(512, {0, -2, 2}), (256, {0, -1, 1}), (32, {0, 1})])
def test_scaled_views_stay_multiples_of_the_stride(side: int, strides: set[int]) -> None:
    views = views_of("flip_scale", side)
    assert {view.strides for view in views} == strides
    assert views[0].strides == 0 and not views[0].flip
    assert len(views) == 2 * len(strides)


def test_dropout_depends_on_seed_and_case_alone() -> None:
    model = small()
    together = run(model, mc_dropout=3)
    again = run(model, mc_dropout=3)
    assert together.std is not None and together.std.max() > 0
    assert torch.equal(together.probability, again.probability)
    xray, drr = images()
    predictor = Predictor([model], PassOptions(mc_dropout=3)).eval()
    with torch.inference_mode():
        alone = predictor(xray[1:], drr[1:], ["b"])
    torch.testing.assert_close(alone.probability, together.probability[1:], atol=1e-6, rtol=0)
    assert not torch.equal(run(model, mc_dropout=3, seed=1).probability, together.probability)
    assert not torch.equal(run(model, ["a", "c"], mc_dropout=3).std[1], together.std[1])


@needs_gpu
def test_a_gpu_predicts_what_the_cpu_does_and_its_dropout_depends_on_seed_and_case_alone() -> None:
    xray, drr = images()
    expected = run(small(), tta="flip_scale")
    plain = Predictor([small()], PassOptions(tta="flip_scale")).eval().to("cuda")
    unsure = Predictor([small()], PassOptions(mc_dropout=3)).eval().to("cuda")
    with torch.inference_mode():
        maps = plain(xray.to("cuda"), drr.to("cuda"), ["a", "b"])
        together, again = (unsure(xray.to("cuda"), drr.to("cuda"), ["a", "b"]) for _ in range(2))
        alone = unsure(xray[1:].to("cuda"), drr[1:].to("cuda"), ["b"])
    for name in ("probability", "attention", "std"):
        found, wanted = getattr(maps, name).cpu(), getattr(expected, name)
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-3)  # TF32 convolutions
    assert torch.equal(together.probability, again.probability)
    torch.testing.assert_close(alone.probability, together.probability[1:], atol=2e-3, rtol=0)
    assert together.std.max() > 0


def test_dropout_leaves_the_model_and_torch_as_they_were() -> None:
    model = small()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with dropout_on(model, 5):
        assert any(layer.training for layer in model.modules())
        torch.rand(7)
    assert not any(layer.training for layer in model.modules())
    assert torch.equal(torch.rand(2), expected)


def test_dropout_of_a_model_without_is_refused() -> None:
    with pytest.raises(ConfigError, match="no dropout"):
        Predictor([small(dropout=0.0)], PassOptions(mc_dropout=2))


def test_an_ensemble_is_the_mean_and_attention_counts_where_there_is_some() -> None:
    class Blind(Pointwise):
        has_attention = False

    xray, drr = images()
    ensemble = Predictor([Pointwise(1.0), Blind(3.0)]).eval()
    maps = ensemble(xray, drr, ["a", "b"])
    torch.testing.assert_close(maps.probability, (xray.sigmoid() + (3 * xray).sigmoid()) / 2)
    torch.testing.assert_close(maps.attention, drr.sigmoid())
    assert maps.n_passes == 2 and ensemble.has_attention
    assert not Predictor([Blind()]).has_attention


def test_the_threshold_of_an_ensemble_is_the_mean() -> None:
    class Member(nn.Module):
        def __init__(self, threshold: float) -> None:
            super().__init__()
            self.threshold = threshold

    members = [Member(0.2), Member(0.4)]
    assert threshold_of(members, None) == pytest.approx(0.3)  # type: ignore[arg-type]
    assert threshold_of(members, 0.7) == 0.7  # type: ignore[arg-type]


class Watched(Pointwise):
    """Remembers the size that it is shown."""

    side = 0

    def forward(self, xray: Tensor, drr: Tensor) -> DualPathwayOutput:
        self.side = xray.shape[-1]
        return super().forward(xray, drr)


@pytest.mark.parametrize("given_side", [32, 64, 128, 192])
def test_models_see_the_size_they_were_trained_at(given_side: int) -> None:
    model = Watched(gain=4.0)
    ramp = torch.linspace(-1, 1, given_side).expand(2, 1, given_side, given_side)
    maps = Predictor([model], sizes=[64])(ramp, -ramp, ["a", "b"])
    assert model.side == 64
    assert maps.probability.shape == maps.attention.shape == ramp.shape
    # A ramp is still that ramp, away from the borders.
    inside = (..., slice(8, -8), slice(8, -8))
    close = {"rtol": 0.0, "atol": 0.03}
    torch.testing.assert_close(maps.probability[inside], (4 * ramp).sigmoid()[inside], **close)
    torch.testing.assert_close(maps.attention[inside], (-ramp).sigmoid()[inside], **close)


def test_members_of_an_ensemble_each_see_their_own_size() -> None:
    models = [Watched(gain=4.0), Watched(gain=4.0)]
    ramp = torch.linspace(-1, 1, 128).expand(2, 1, 128, 128)
    maps = Predictor(models, PassOptions(tta="flip"), sizes=[64, 128])(ramp, ramp, ["a", "b"])
    assert [model.side for model in models] == [64, 128]
    assert maps.n_passes == 4 and maps.std is not None
    assert maps.probability.shape == maps.std.shape == ramp.shape
    inside = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(
        maps.probability[inside], (4 * ramp).sigmoid()[inside], rtol=0.0, atol=0.03
    )


def test_the_spread_comes_back_to_the_images_size_too() -> None:
    xray, drr = images(side=128)
    maps = Predictor([small()], PassOptions(mc_dropout=2), sizes=[64]).eval()(xray, drr, ["a", "b"])
    assert maps.std is not None
    assert maps.std.shape == xray.shape
