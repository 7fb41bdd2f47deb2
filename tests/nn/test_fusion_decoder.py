from __future__ import annotations

import torch
from torch.nn import functional as F

from attnseg.nn.blocks import SubPixelHead, norm_layer, upsample
from attnseg.nn.decoder import Decoder
from attnseg.nn.fusion import AttentionFusion

from .helpers import dual_model, images


def pyramid(channels: tuple[int, ...] = (4, 8, 8), size: int = 32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, count, size >> level, size >> level, generator=generator)
        for level, count in enumerate(channels, start=1)
    ]


def test_features_times_one_plus_alpha_attention() -> None:
    features = pyramid()
    fusion = AttentionFusion(3, alpha=0.5, learned=False)
    attention = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    for level, (before, after) in enumerate(
        zip(features, fusion(features, attention), strict=True)
    ):
        coarse = F.max_pool2d(attention, 2 ** (level + 1))
        torch.testing.assert_close(after, before * (1 + 0.5 * coarse))


def test_no_attention_leaves_features_and_full_attention_scales_them() -> None:
    features = pyramid()
    fusion = AttentionFusion(3, alpha=2.0)
    for before, after in zip(features, fusion(features, torch.zeros(2, 1, 32, 32)), strict=True):
        assert torch.equal(before, after)
    for before, after in zip(features, fusion(features, torch.ones(2, 1, 32, 32)), strict=True):
        torch.testing.assert_close(after, 3 * before)


def test_a_single_lit_pixel_reaches_every_scale() -> None:
    attention = torch.zeros(2, 1, 32, 32)
    attention[..., 9, 22] = 1.0
    fusion = AttentionFusion(3, alpha=1.0)
    for level, after in enumerate(fusion([torch.ones_like(x) for x in pyramid()], attention), 1):
        lit = (after[0, 0] == 2).nonzero().tolist()
        assert lit == [[9 >> level, 22 >> level]]


def test_alpha_is_learned_on_request_with_the_attention() -> None:
    learned = dict(dual_model(fusion={"alpha": 0.7, "learned": True}).named_parameters())
    torch.testing.assert_close(learned["fusion.alpha"].detach(), torch.full((5,), 0.7))
    fixed = dual_model(fusion={"alpha": 0.7, "learned": False})
    assert "fusion.alpha" not in dict(fixed.named_parameters())
    assert "fusion.alpha" not in fixed.state_dict()  # a config's number, not a trained one


def test_alpha_zero_cuts_the_mask_off_from_the_attention() -> None:
    xray, drr = images()
    cut = dual_model(fusion={"alpha": 0.0, "learned": False}).eval()
    assert torch.equal(cut(xray, drr).mask_logits, cut(xray, -drr).mask_logits)
    joined = dual_model(fusion={"alpha": 1.0, "learned": False}).eval()
    assert not torch.equal(joined(xray, drr).mask_logits, joined(xray, -drr).mask_logits)


def test_the_decoder_uses_every_skip() -> None:
    features = [feature.requires_grad_() for feature in pyramid()]
    decoder = Decoder((4, 8, 8), 4)
    out = decoder(features)
    assert out.shape == (2, 4, 16, 16)
    out.sum().backward()
    assert all(feature.grad is not None and feature.grad.abs().sum() > 0 for feature in features)


def test_the_head_starts_without_a_checkerboard_and_can_learn_single_pixels() -> None:
    torch.manual_seed(0)
    head = SubPixelHead(4, 2)
    logits = head(torch.randn(1, 4, 8, 8))
    assert logits.shape == (1, 1, 16, 16)
    corner = logits[..., ::2, ::2]
    for row in (0, 1):
        for column in (0, 1):
            assert torch.equal(logits[..., row::2, column::2], corner)
    with torch.no_grad():
        head.conv.bias[1] += 1.0
    moved = head(torch.zeros(1, 4, 8, 8))
    assert not torch.equal(moved[..., ::2, ::2], moved[..., ::2, 1::2])


def test_group_norm_takes_any_number_of_channels() -> None:
    for channels in (1, 6, 24, 33):
        assert norm_layer("group", channels)(torch.randn(1, channels, 4, 4)).shape[1] == channels


def test_upsampling_keeps_the_centre() -> None:
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 4] = 1.0
    big = upsample(x, 4)[0, 0]
    assert torch.allclose(big, big.flip(0)) and torch.allclose(big, big.T)
    assert upsample(x, 1) is x
