"""What our parts promise; `attnseg` itself checks the rest before it trains."""

from __future__ import annotations

import torch
from mylab.attention import Ellipse
from mylab.curves import sawtooth


def test_an_attention_is_a_map_between_0_and_1() -> None:
    features = [torch.rand(2, 8, 16, 16), torch.rand(2, 8, 8, 8)]
    logits, attention = Ellipse([8, 8])(torch.rand(2, 1, 64, 48), [], features)
    assert logits.shape == attention.shape == (2, 1, 64, 48)
    assert 0 <= attention.min() < attention.max() <= 1


def test_a_sawtooth_falls_from_start_to_end() -> None:
    assert sawtooth(0.0) == 0.5
    assert abs(sawtooth(1.0) - 0.1) < 1e-9
    assert sawtooth(0.1) > sawtooth(0.3) < sawtooth(0.4)
