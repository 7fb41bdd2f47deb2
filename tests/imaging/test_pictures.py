from __future__ import annotations

import numpy as np
import pytest

from attnseg.imaging.pictures import LENGTH, same_pictures, sketch


def _picture(seed: int) -> np.ndarray:
    """A gradient, like in all of them, and texture of its own."""
    noise = np.random.default_rng(seed).normal(0, 25, (96, 80))
    return np.clip(257 * (noise + np.linspace(20, 230, 80)), 0, 65535).astype(np.uint16)


COPIES = {
    "thirty-two bit": lambda p: p.astype(np.uint32) * 257,
    "shifted": lambda p: p.astype(np.uint32) << 8,
    "in [0, 1]": lambda p: (p / 65535).astype(np.float32),
    "in HU": lambda p: p.astype(np.int32) * 4 - 1000,
    "doubles": lambda p: p.astype(np.float64) * 1e-6,
    "eight bit": lambda p: (p // 257).astype(np.uint8),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_among_others(name: str) -> None:
    pictures = [_picture(seed) for seed in range(30)]
    pictures.insert(20, COPIES[name](pictures[4]))
    assert same_pictures(np.array([sketch(pixels) for pixels in pictures])) == [[4, 20]]


def test_constant_images_are_like_no_other() -> None:
    blank = np.full((64, 64), 7, np.uint8)
    assert not sketch(blank).any()
    assert same_pictures(np.array([sketch(blank), sketch(blank)])) == []


def test_among_many_every_copy_is_found_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(size=LENGTH - 1)  # chest radiographs are alike
    values = 0.8 * common + 0.6 * rng.normal(size=(20_000, LENGTH - 1))
    values[10_000:10_200] = values[:200] + rng.normal(0, 0.003, (200, LENGTH - 1))
    values[15_000:15_100] = values[300]
    room = np.full((20_000, 1), 0.005)  # of 8 bits
    groups = same_pictures(np.rint(np.hstack([values, room]) * 2048).astype(np.int16))
    assert [7, 10_007] in groups
    assert sorted(map(len, groups)) == [2] * 200 + [101]


def test_sixteen_bits_that_differ_in_faint_noise_are_two_pictures() -> None:
    noise = np.random.default_rng(5).normal(0, 150, (96, 80))
    other = np.clip(_picture(0) + noise, 0, 65535).astype(np.uint16)
    assert same_pictures(np.array([sketch(_picture(0)), sketch(other)])) == []
