"""Other renderers see the same rays as the built-in projector."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from attnseg.common.errors import ConfigError
from attnseg.imaging.drr.geometry import build_geometry
from attnseg.imaging.drr.renderers import find_renderer
from attnseg.imaging.drr.views import optical_depth
from tests.conftest import needs_gpu
from tests.imaging.drr.helpers import chest, projection, volume

NEEDS = {"nanodrr": "nanodrr", "diffdrr": "diffdrr.renderers"}


@pytest.mark.parametrize("renderer", ["nanodrr", "diffdrr"])
@pytest.mark.parametrize("beam", ["cone_beam", "parallel"])
@pytest.mark.parametrize("view", ["PA", "{angle_deg:30,tilt_deg:10}"])
def test_a_renderer_gives_the_projectors_integrals(renderer: str, beam: str, view: str) -> None:
    pytest.importorskip(NEEDS[renderer])
    hu, _ = chest((40, 48, 56))
    hu[:6] = hu[-6:] = -1000
    hu = ndimage.gaussian_filter(hu.astype(np.float32), 2.0)  # the voxels' edges are each one's own
    ct = volume(hu, (2.0, 1.5, 1.2), centre=(5.0, 6.0, -70.0))
    views = (f"projection.views=[{view}]", "projection.detector.size=[64,64]",
             "projection.detector.pixel_mm=1.4")  # fmt: skip
    own = projection(beam, *views)
    geometry = build_geometry(own, own.views[0], ct)
    expected = optical_depth(ct, geometry, own)
    other = projection(beam, *views, f"projection.renderer={renderer}")
    found = optical_depth(ct, geometry, other, chunk_mb=4)
    assert found.shape == expected.shape
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.995
    assert found.sum() == pytest.approx(expected.sum(), rel=0.01)


def test_a_renderer_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def missing(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", missing)
    for name in ("nanodrr", "diffdrr"):
        with pytest.raises(ConfigError, match=f"projection.renderer={name} is not installed"):
            find_renderer(name)


@needs_gpu
@pytest.mark.parametrize("beam", ["cone_beam", "parallel", "lidc_drr"])
def test_a_gpu_gives_the_same_integrals(beam: str) -> None:
    hu, _ = chest((40, 48, 56))
    ct = volume(hu, (2.0, 1.5, 1.2), centre=(5.0, 6.0, -70.0))
    config = projection(beam)
    geometry = build_geometry(config, config.views[0], ct)
    expected = optical_depth(ct, geometry, config)
    found = optical_depth(ct, geometry, config, device="cuda")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
