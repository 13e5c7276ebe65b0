from pathlib import Path

import numpy as np
import pytest

from treedet.errors import UnknownGsdError
from treedet.rasters.raster import Raster
from treedet.rasters.stream import stream_tiles
from treedet.rasters.tiling import TilingConfig, plan_tiles

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real imagery in ../shared/data is absent")


def test_mercator_metres_become_ground_metres():
    for name, gsd in (("5b90f92da0d7280005fab355_4310.tif", 0.0969), ("5dded5bc0140b80006d2e565_23.tif", 0.0962)):
        with Raster.open(DATA / "samples" / name) as raster:
            assert raster.grid.gsd == pytest.approx(gsd, abs=1e-4)
            assert not raster.warped
            assert raster.facts.layout == "striped"


def test_nodata_of_bright_pixels_is_no_nodata():
    with Raster.open(DATA / "samples" / "OSBS_029.tif") as raster:
        tile = raster.read(raster.grid.full_window)
        coarse = raster.read(raster.grid.at_gsd(0.2).full_window, gsd=0.2)
    some, every = (tile.pixels == 255).any(axis=0), (tile.pixels == 255).all(axis=0)
    assert np.count_nonzero(some) == 2126
    assert np.array_equal(tile.valid, ~every)
    means = tile.pixels.reshape(3, 200, 2, 200, 2).mean(axis=(2, 4))
    assert np.array_equal(coarse.pixels, np.floor(means + 0.5))


def test_local_crs_is_read_in_its_own_unit():
    for path in sorted((DATA / "pasture-25cm").glob("*.tif")):
        with Raster.open(path) as raster:
            assert raster.grid.gsd == pytest.approx(0.25)
            assert not raster.warped
            assert raster.source_crs is not None
            assert "POSGAR" in raster.facts.crs


def test_image_without_crs_needs_a_gsd():
    path = DATA / "samples" / "SOAP_061.png"
    with pytest.raises(UnknownGsdError, match="gsd="):
        Raster.open(path)
    with Raster.open(path, gsd=0.1) as raster:
        assert raster.read(raster.grid.full_window).pixels.shape == (3, 400, 400)


def test_striped_jpeg_streams_like_it_reads():
    with Raster.open(DATA / "samples" / "5b90f92da0d7280005fab355_4310.tif") as raster:
        plan = plan_tiles(raster.grid.at_gsd(0.2), TilingConfig(window_px=384, overlap_px=64))
        assert plan.n_windows > 4
        for _, tile in stream_tiles(raster, plan):
            single = raster.read_on(plan.grid, tile.window)
            assert np.array_equal(tile.pixels, single.pixels)
            assert np.array_equal(tile.valid, single.valid)
