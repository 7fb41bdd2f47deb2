"""To the model's square as training does it, and back to the image's own grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnseg.common.errors import DataError
from attnseg.data.cache import decode_images
from attnseg.data.transforms import render
from attnseg.imaging.case import CaseImages
from attnseg.imaging.window import full_window
from attnseg.inference.grid import Canvas, on_grid, prepare, tile_windows

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (100, 80), (31, 200)])
def test_the_input_is_what_training_makes_of_the_image(shape: tuple[int, int]) -> None:
    xray, drr = (RNG.integers(0, 4000, shape).astype(np.uint16) for _ in range(2))
    images = CaseImages(xray=xray, drr=drr, mask=np.zeros(shape, np.uint8))
    decoded = decode_images(images, 64)
    expected = render(decoded, full_window(decoded.mask.shape, 64))[:2]
    prepared = prepare(xray, drr, 64)
    assert len(prepared.windows) == 1
    assert torch.equal(prepared.inputs(0), expected)


def test_maps_of_an_image_of_the_models_size_come_back_to_the_bit() -> None:
    xray = RNG.random((64, 48)).astype(np.float32)
    prepared = prepare(xray, xray, 64)
    maps = torch.rand(2, 64, 64)
    canvas = Canvas(prepared, 2)
    canvas.add(0, maps)
    np.testing.assert_array_equal(canvas.maps(), maps[:, :, 8:56].numpy())


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
)
def test_tiles_cover_every_pixel_and_none_reaches_beyond_without_need(
    height: int, width: int, overlap: float
) -> None:
    seen = np.zeros((height, width), dtype=int)
    windows = tile_windows((height, width), 64, overlap)
    for window in windows:
        seen[window.overlap((height, width))] += 1
        for start, length in ((window.top, height), (window.left, width)):
            assert start + 64 <= length or length <= 64
    assert seen.min() >= 1
    if max(height, width) <= 64:
        assert len(windows) == 1


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(40, 150), st.integers(40, 150)),
    tiles=st.integers(1, 4),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
)
def test_blending_gives_back_what_every_tile_saw(
    shape: tuple[int, int], tiles: int, overlap: float
) -> None:
    """A model that answers with its input: the blended map is the scaled image itself."""
    image = np.random.default_rng(1).random(shape).astype(np.float32)
    prepared = prepare(image, image, 32, tiles=tiles, overlap=overlap)
    canvas = Canvas(prepared, 2)
    for index in range(len(prepared.windows)):
        canvas.add(index, prepared.inputs(index))
    decoded = prepared.decoded
    expected = (decoded.xray - decoded.mean[0]) / decoded.std[0]
    np.testing.assert_allclose(canvas.scaled()[0].numpy(), expected, atol=2e-5)


def test_tiles_never_enlarge_an_image() -> None:
    image = RNG.random((100, 90)).astype(np.float32)
    assert max(prepare(image, image, 64, tiles=8).decoded.mask.shape) == 100
    assert max(prepare(image, image, 64, tiles=1).decoded.mask.shape) == 64


def test_pixels_that_are_not_square_are_made_square_for_the_model_alone() -> None:
    """A disc on pixels twice as high as wide is one to the model, and comes back to its place."""
    rows, columns = np.mgrid[0:60, 0:120]
    disc = ((rows - 29.5) * 2) ** 2 + (columns - 59.5) ** 2 < 20**2
    prepared = prepare(disc.astype(np.float32), disc.astype(np.float32), 120, aspect=2.0)
    assert prepared.decoded.mask.shape == (120, 120)
    seen = prepared.inputs(0)[0] > 0
    extent = [int(seen.any(axis).sum()) for axis in (0, 1)]
    assert abs(extent[0] - extent[1]) <= 2
    canvas = Canvas(prepared, 1)
    canvas.add(0, seen[None].float())
    back = canvas.maps()[0] > 0.5
    assert back.shape == disc.shape
    assert (back ^ disc).sum() < 0.05 * disc.sum()


def test_a_drr_on_another_grid_is_refused_or_brought_there() -> None:
    drr, shape = RNG.random((50, 50)).astype(np.float32), (100, 100)
    with pytest.raises(DataError, match=r"x.png: the DRR is 50 x 50 px.*on_mismatch=resample"):
        on_grid(drr, None, shape, None, name="x.png", resample=False)
    assert on_grid(drr, None, shape, None, name="x.png", resample=True).shape == shape
    with pytest.raises(DataError, match="another aspect"):
        on_grid(drr[:20], None, shape, None, name="x.png", resample=True)
    with pytest.raises(DataError, match=r"at 2 x 2 mm, but its X-ray is 50 x 50 px at 1 x 1 mm"):
        on_grid(drr, (2.0, 2.0), (50, 50), (1.0, 1.0), name="x.png", resample=False)
    assert on_grid(drr, (1.0, 1.0), (50, 50), (1.0, 1.0), name="x", resample=False) is drr
