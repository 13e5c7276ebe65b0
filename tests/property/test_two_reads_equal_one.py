import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treedet.core.grid import Window
from treedet.rasters.raster import Raster

LAYOUTS = {
    "striped": {},
    "tiled": {"tiled": True, "blockxsize": 32, "blockysize": 48},
    "overviews": {"tiled": True, "blockxsize": 32, "blockysize": 32},
}


@pytest.fixture(scope="module")
def rasters(tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 217, 301), dtype=np.uint8)
    pixels[:, 60:110, 100:180] = 0
    opened = {}
    for name, layout in LAYOUTS.items():
        path = tmp_path_factory.mktemp("rasters") / f"{name}.tif"
        shape = {"driver": "GTiff", "count": 3, "height": 217, "width": 301, "dtype": "uint8", "nodata": 0}
        place = {"crs": "EPSG:32632", "transform": Affine(0.1, 0, 5e5, 0, -0.1, 5e6)}
        with rasterio.open(path, "w", **shape, **place, **layout) as out:
            out.write(pixels)
            if name == "overviews":
                out.build_overviews([2, 4], rasterio.enums.Resampling.average)
        opened[name] = Raster.open(path, gsd=0.1)
    with pytest.MonkeyPatch.context() as patch:
        # Strips of a few rows, so that narrow and wide windows are put together from different ones.
        patch.setattr("treedet.rasters.raster._STRIP_BYTES", 6000)
        yield opened
    for raster in opened.values():
        raster.close()


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    gsd=st.sampled_from([0.05, 0.083, 0.1, 0.13, 0.2, 0.3, 0.37, 0.4, 1.1]),
    data=st.data(),
)
def test_two_neighbouring_reads_equal_one_wide_read(rasters, layout, gsd, data):
    raster = rasters[layout]
    model = raster.grid.at_gsd(gsd)
    top = data.draw(st.integers(0, model.height - 2))
    left = data.draw(st.integers(0, model.width - 2))
    bottom = data.draw(st.integers(top + 2, model.height))
    right = data.draw(st.integers(left + 2, model.width))
    row, col = data.draw(st.integers(top + 1, bottom - 1)), data.draw(st.integers(left + 1, right - 1))
    wide = raster.read(Window(top, left, bottom - top, right - left), gsd)
    parts = [
        [raster.read(Window(y, x, high, across), gsd) for x, across in ((left, col - left), (col, right - col))]
        for y, high in ((top, row - top), (row, bottom - row))
    ]
    pixels = np.concatenate([np.concatenate([t.pixels for t in line], axis=2) for line in parts], axis=1)
    valid = np.concatenate([np.concatenate([t.valid for t in line], axis=1) for line in parts], axis=0)
    assert np.array_equal(pixels, wide.pixels)
    assert np.array_equal(valid, wide.valid)
